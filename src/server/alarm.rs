//! What there is not enough of: said in the log when it begins, once, and again when it is over.

use crate::limits;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// One thing that there may be too little of.
#[derive(Default)]
pub struct Alarm {
    /// When it was lacking last: monotonic nanoseconds; 0 when all is well.
    last: AtomicU64,
}

/// All that is watched.
#[derive(Default)]
pub struct Alarms {
    pub descriptors: Alarm,
    pub memory: Alarm,
    /// A remote origin that answers.
    pub origin: Alarm,
}

impl Alarm {
    /// It is lacking `now`. `say` is called when that is news.
    pub fn raise(&self, now: u64, say: impl FnOnce()) {
        if self.last.swap(now.max(1), Relaxed) == 0 {
            say();
        }
    }

    /// Ends the alarm when nothing was lacking for a while; then `say` is called.
    pub fn calm(&self, now: u64, say: impl FnOnce()) {
        let last = self.last.load(Relaxed);
        let is_over = last > 0 && now.saturating_sub(last) > limits::ALARM_OVER.as_nanos() as u64;
        if is_over && self.last.compare_exchange(last, 0, Relaxed, Relaxed).is_ok() {
            say();
        }
    }
}

impl Alarms {
    /// Whether new connections are refused for another reason than their number.
    pub fn are_raised(&self) -> bool {
        [&self.descriptors, &self.memory].iter().any(|alarm| alarm.last.load(Relaxed) > 0)
    }

    /// Says what is over.
    pub fn calm(&self, now: u64) {
        self.descriptors.calm(now, || tracing::warn!("there are descriptors for new connections again"));
        self.memory.calm(now, || tracing::warn!("there is enough memory again"));
        self.origin.calm(now, || tracing::warn!("the origin has not failed for a while"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn beginning_and_end_are_said_once() {
        let (alarm, said) = (Alarm::default(), Cell::new(0));
        let say = || said.set(said.get() + 1);
        let over = limits::ALARM_OVER.as_nanos() as u64 + 1;
        alarm.calm(over, say);
        assert_eq!(said.get(), 0);
        (0..10).for_each(|now| alarm.raise(now, say));
        assert_eq!(said.get(), 1);
        alarm.calm(9 + over - 1, say);
        assert_eq!(said.get(), 1);
        (0..3).for_each(|more| alarm.calm(9 + over + more, say));
        assert_eq!(said.get(), 2);
        alarm.raise(10 * over, say);
        assert_eq!(said.get(), 3);
    }
}
