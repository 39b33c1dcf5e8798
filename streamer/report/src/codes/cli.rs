//! Codes of the command line itself: configuration, credentials, signals.

super::codes! {
    CONFIG = "usage.invalid_config", 2, "The configuration file cannot be read or holds an unknown field.", "correct the file and line named in the message";
    INTERNAL = "internal", 1, "A defect in the program.", "please report it with the message and the version";
    IO = "io", 1, "A local file could not be read or written.", "check the path, its permissions and the free space";
    AGENT_RUNNING = "conflict.agent_running", 7, "Another agent works with the same state directory.", "one machine needs one agent; stop the other one first";
    CHILD = "agent.child_failed", 1, "A command that the agent ran ended without a word of its own.", "the lines before it may tell; run the same command by hand";
    INTERRUPTED = "aborted.interrupted", 5, "A signal ended the command before it was done.", "run it again; nothing unfinished is trusted";
}
