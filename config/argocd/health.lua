-- What Argo CD shows for the objects of hardstorage.dev; the same for every kind. See kustomization.yaml.
local function answer(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.conditions == nil then
  return answer("Progressing", "the operator has not looked at it yet")
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return answer("Progressing", "the operator has not looked at the last change yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local function words(condition)
  if condition.message == nil or condition.message == "" then
    return condition.reason
  end
  return condition.reason .. ": " .. condition.message
end

local stalled = conditions.Stalled
if stalled ~= nil and stalled.status == "True" then
  return answer("Degraded", words(stalled))
end

-- A backup is over once: later conditions do not make it another one.
if obj.kind == "Backup" and (status.phase == "Completed" or status.phase == "Tombstoned") then
  return answer("Healthy", status.phase)
end

-- A plan that waits for a person is neither done nor on its way.
if obj.kind == "Restore" and status.phase == "Planned" then
  return answer("Suspended", words(conditions.Ready))
end

local streaming = conditions.Streaming
if streaming ~= nil and (streaming.reason == "Paused" or streaming.reason == "SourceHibernated") then
  return answer("Suspended", words(streaming))
end

-- What somebody has to look at although it may be Ready or come back by itself.
for _, name in ipairs({"Reachable", "WriteSafe", "KeyAvailable", "ArchiveContinuous", "SlotHealthy", "Streaming", "LastRunSucceeded"}) do
  local condition = conditions[name]
  if condition ~= nil and condition.status == "False" then
    return answer("Degraded", words(condition))
  end
end

local ready = conditions.Ready
if ready == nil or ready.status ~= "True" then
  return answer("Progressing", ready ~= nil and words(ready) or "the operator has not looked at it yet")
end
if streaming ~= nil and streaming.status == "Unknown" then
  return answer("Progressing", words(streaming))
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return answer("Suspended", "suspend is set")
end
return answer("Healthy", words(ready))
