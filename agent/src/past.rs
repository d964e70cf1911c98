//! What the agent knows of the attempts before the one that it may begin.
//!
//! A run signal that appears is not always news. The kubelet restarts a container whose agent had begun an attempt
//! already; and a kubelet that was itself restarted may show an old value of the signal volume before the present one. So
//! an agent remembers how far the attempts of its pod have come, and no signal makes it begin one of those again.

use crate::journal::{Entry, JournalView};

/// How far the attempts of this pod have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Past {
    /// The journal holds none, and no mark was seen: any attempt is new.
    Blank,
    /// The mark of this attempt was seen: it and all before it are over and on record, and nobody waits for an answer.
    Settled(u32),
    /// This is the latest attempt in the journal, and its mark was not seen: the controller may still need its answer.
    /// The attempts before it were settled, or it would not have been ordered.
    Unsettled(u32, Entry),
}

/// What an attempt is in the light of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Later than all that is known of: it may be begun.
    New,
    /// Begun or answered by an agent before this one, and perhaps not on record: this is what is known of it.
    Known(Entry),
    /// Over and on record.
    Old,
}

impl Past {
    /// What this journal knows. Of one that can't be read nothing is known; but the start of an attempt that it holds can't
    /// be written again, so none is begun twice.
    pub fn of(journal: &JournalView) -> Past {
        journal.latest().map_or(Past::Blank, |(attempt, entry)| Past::Unsettled(attempt, entry))
    }

    /// The same, now that the mark of this attempt was seen. A mark of an earlier one is an old value, and says nothing.
    pub fn settled(self, attempt: u32) -> Past {
        match self {
            Past::Settled(latest) | Past::Unsettled(latest, _) if latest > attempt => self,
            _ => Past::Settled(attempt),
        }
    }

    /// What the attempt is.
    pub fn standing(self, attempt: u32) -> Standing {
        match self {
            Past::Unsettled(latest, entry) if attempt == latest => Standing::Known(entry),
            Past::Settled(latest) | Past::Unsettled(latest, _) if attempt <= latest => Standing::Old,
            _ => Standing::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_up_to_the_latest_attempt_is_new() {
        for past in [Past::Settled(3), Past::Unsettled(3, Entry::Started)] {
            assert_eq!([1, 2, 4].map(|attempt| past.standing(attempt)), [Standing::Old, Standing::Old, Standing::New]);
        }
        assert_eq!(Past::Settled(3).standing(3), Standing::Old);
        assert_eq!(Past::Unsettled(3, Entry::Started).standing(3), Standing::Known(Entry::Started));
        assert_eq!(Past::Blank.standing(0), Standing::New);
    }

    #[test]
    fn a_mark_is_never_taken_back_and_an_old_one_settles_nothing_later() {
        assert_eq!(Past::Blank.settled(3).settled(2), Past::Settled(3));
        assert_eq!(Past::Settled(3).settled(4), Past::Settled(4));
        let past = Past::Unsettled(3, Entry::Started);
        assert_eq!(past.settled(2), past);
        assert_eq!([past.settled(3), past.settled(4)], [Past::Settled(3), Past::Settled(4)]);
    }
}
