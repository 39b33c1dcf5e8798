//! The five fields of a schedule, read as the CronJob controller reads them. Pure.
//!
//! That controller goes by robfig/cron: a list of values, ranges and steps; `N/STEP` means from N on; of day-of-month and
//! day-of-week one is enough when neither is a star; a step of more than one is no star.

/// The widest range that a field has.
struct Range {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const RANGES: [Range; 5] = [
    Range {
        name: "minute",
        min: 0,
        max: 59,
        names: &[],
    },
    Range {
        name: "hour",
        min: 0,
        max: 23,
        names: &[],
    },
    Range {
        name: "day of month",
        min: 1,
        max: 31,
        names: &[],
    },
    Range {
        name: "month",
        min: 1,
        max: 12,
        names: &MONTHS,
    },
    Range {
        name: "day of week",
        min: 0,
        max: 6,
        names: &WEEKDAYS,
    },
];

/// One field: a bit for each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits >> value & 1 == 1)
    }
}

/// The fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Fields {
    /// Reads five fields; an error says which one is wrong.
    pub fn read(text: &str) -> Result<Fields, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = words[..] else {
            return Err(format!("a schedule has five fields, and {text:?} has {}", words.len()));
        };
        let [minutes, hours, days, months, weekdays] = &RANGES;
        Ok(Fields {
            minute: field(minute, minutes)?,
            hour: field(hour, hours)?,
            day: field(day, days)?,
            month: field(month, months)?,
            weekday: field(weekday, weekdays)?,
        })
    }

    /// Whether it runs on that day.
    pub fn on(&self, date: jiff::civil::Date) -> bool {
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        let either = if self.day.star || self.weekday.star {
            day && weekday
        } else {
            day || weekday
        };
        self.month.has(date.month()) && either
    }

    /// Whether it runs in that hour.
    pub fn in_hour(&self, hour: i8) -> bool {
        self.hour.has(hour)
    }

    /// Whether no hour is without it.
    pub fn in_every_hour(&self) -> bool {
        (0..24).all(|hour| self.hour.has(hour))
    }

    /// Whether it runs in that minute.
    pub fn in_minute(&self, minute: i8) -> bool {
        self.minute.has(minute)
    }
}

fn field(text: &str, range: &Range) -> Result<Field, String> {
    let mut out = Field::default();
    for item in text.split(',') {
        let read = one(item, range).ok_or_else(|| format!("{item:?} is no {}", range.name))?;
        out.bits |= read.bits;
        out.star |= read.star;
    }
    Ok(out)
}

fn one(item: &str, range: &Range) -> Option<Field> {
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => (span, Some(number(step)?)),
        None => (item, None),
    };
    let any = matches!(span, "*" | "?");
    let (from, to) = match span.split_once('-') {
        _ if any => (range.min, range.max),
        Some((from, to)) => (value(from, range)?, value(to, range)?),
        None => {
            let from = value(span, range)?;
            (from, if step.is_some() { range.max } else { from })
        }
    };
    let step = step.unwrap_or(1);
    if step == 0 || from < range.min || to > range.max || from > to {
        return None;
    }
    let bits = (from..=to)
        .step_by(usize::try_from(step).ok()?)
        .fold(0, |bits, value| bits | 1 << value);
    Some(Field {
        bits,
        star: any && step == 1,
    })
}

fn value(word: &str, range: &Range) -> Option<u32> {
    let lower = word.to_ascii_lowercase();
    let named = range.names.iter().position(|name| *name == lower);
    match named {
        Some(index) => Some(range.min + u32::try_from(index).ok()?),
        None => number(word),
    }
}

fn number(word: &str) -> Option<u32> {
    word.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| word.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    fn minutes(text: &str) -> Vec<i8> {
        let fields = Fields::read(&format!("{text} * * * *")).unwrap();
        (0..60).filter(|minute| fields.in_minute(*minute)).collect()
    }

    #[test]
    fn values_ranges_and_steps() {
        let cases: [(&str, &[i8]); 7] = [
            ("7", &[7]),
            ("07", &[7]),
            ("1-3,58", &[1, 2, 3, 58]),
            ("*/20", &[0, 20, 40]),
            ("?/70", &[0]),
            ("50/5", &[50, 55]),
            ("10-20/5", &[10, 15, 20]),
        ];
        for (text, wanted) in cases {
            assert_eq!(minutes(text), wanted, "{text}");
        }
        assert_eq!(minutes("*").len(), 60);
    }

    #[test]
    fn what_the_controller_would_refuse() {
        let nonsense = [
            "5-3 * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "* * * * fri-mon",
            "*/0 * * * *",
            "* * * *",
            "* * * * * *",
            "",
            "a * * * *",
            ", * * * *",
            "1- * * * *",
            "+1 * * * *",
            "1/2/3 * * * *",
        ];
        for text in nonsense {
            assert!(Fields::read(text).is_err(), "{text:?}");
        }
        assert!(Fields::read("5-3 * * * *").unwrap_err().contains("minute"));
    }

    #[test]
    fn one_of_two_days_is_enough_unless_one_is_a_star() {
        let on = |text: &str, date: &str| Fields::read(text).unwrap().on(date.parse().unwrap());
        // 2026-06-15 is a Monday.
        assert!(on("0 0 15 * fri", "2026-06-15"));
        assert!(on("0 0 15 * fri", "2026-06-19"));
        assert!(!on("0 0 15 * fri", "2026-06-18"));
        assert!(!on("0 0 15 * *", "2026-06-19"));
        assert!(on("0 0 * JUN mon", "2026-06-15"));
        assert!(!on("0 0 * jul mon", "2026-06-15"));
        // A step of more than one is no star.
        assert!(on("0 0 */2 * mon", "2026-06-22"));
    }
}
