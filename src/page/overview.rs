//! The list of groups: which of them are shown, in which order, and how many there are.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::controller::index::Index;

use super::view::{Entry, Group, Mood};

/// Groups on one page.
pub const PER_PAGE: usize = 100;
/// How long a group that came to rest is shown among those that move: whoever watched it sees how it ended.
const LATELY: SignedDuration = SignedDuration::from_mins(15);
/// Characters of what is looked for.
const FIND: usize = 100;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Only groups in this mood.
    pub show: Option<Mood>,
    /// Only groups with this in their namespace or name.
    pub find: String,
    /// Which page of them, from 1.
    pub page: usize,
    /// Without a script the page is loaded anew now and then, unless that is not wanted.
    #[serde(skip)]
    pub still: bool,
}

impl Question {
    /// Reads the part of an address after its question mark. What isn't understood doesn't count.
    pub fn parse(query: &str) -> Question {
        let mut question = Question { page: 1, ..Question::default() };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "show" => question.show = Mood::ALL.into_iter().find(|mood| mood.word() == value),
                "find" => question.find = value.trim().chars().take(FIND).collect(),
                "page" => question.page = value.parse().unwrap_or(1).max(1),
                "still" => question.still = true,
                _ => {}
            }
        }
        question
    }

    /// The address of the list that this asks for.
    pub fn address(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(mood) = self.show {
            query.append_pair("show", mood.word());
        }
        if !self.find.is_empty() {
            query.append_pair("find", &self.find);
        }
        if self.page > 1 {
            query.append_pair("page", &self.page.to_string());
        }
        if self.still {
            query.append_pair("still", "1");
        }
        let query = query.finish();
        if query.is_empty() { "/".to_owned() } else { format!("/?{query}") }
    }

    fn finds(&self, entry: &Entry) -> bool {
        let find = self.find.to_lowercase();
        find.is_empty() || format!("{}/{}", entry.key.namespace, entry.key.name).to_lowercase().contains(&find)
    }
}

/// The list that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// What was asked for.
    pub question: Question,
    /// How many groups are in each mood, of those with what is looked for in their name.
    pub counts: Vec<(Mood, usize)>,
    /// How many pages there are.
    pub pages: usize,
    /// Groups that move, need somebody or did lately.
    pub moving: Vec<Group>,
    /// The others.
    pub resting: Vec<Group>,
}

/// The groups of one page, still to be looked at one by one.
pub(super) struct Chosen {
    question: Question,
    counts: Vec<(Mood, usize)>,
    pages: usize,
    /// Those of the page; whether each moves.
    pub(super) entries: Vec<(Entry, bool)>,
}

impl Chosen {
    /// Chooses from all that is known. The index is only passed over: whoever holds it keeps the controller waiting.
    pub(super) fn from(index: &Index, mut question: Question, now: Timestamp) -> Chosen {
        let mut entries: Vec<Entry> = Vec::new();
        index.survey(|glimpse| entries.extend(Entry::of(glimpse)));
        entries.retain(|entry| question.finds(entry));
        let count = |mood: Mood| entries.iter().filter(|entry| entry.mood == mood).count();
        let counts = Mood::ALL.into_iter().map(|mood| (mood, count(mood))).collect();
        entries.retain(|entry| question.show.is_none_or(|mood| entry.mood == mood));
        // By name and not by urgency: a line that is being read must not be elsewhere at the next look.
        let with_place = |entry: Entry| {
            let moves = moves(&entry, now);
            (entry, moves)
        };
        let mut entries: Vec<(Entry, bool)> = entries.into_iter().map(with_place).collect();
        entries.sort_by(|(a, a_moves), (b, b_moves)| (!a_moves, &a.key).cmp(&(!b_moves, &b.key)));
        let pages = entries.len().div_ceil(PER_PAGE).max(1);
        question.page = question.page.clamp(1, pages);
        let entries = entries.into_iter().skip((question.page - 1) * PER_PAGE).take(PER_PAGE).collect();
        Chosen { question, counts, pages, entries }
    }

    /// The list, with what was seen of each group; one that is gone meanwhile is left out.
    pub(super) fn seen(self, mut look: impl FnMut(&Entry) -> Option<Group>) -> Overview {
        let (mut moving, mut resting) = (Vec::new(), Vec::new());
        for (entry, moves) in &self.entries {
            let place = if *moves { &mut moving } else { &mut resting };
            place.extend(look(entry));
        }
        Overview { question: self.question, counts: self.counts, pages: self.pages, moving, resting }
    }
}

fn moves(entry: &Entry, now: Timestamp) -> bool {
    entry.mood != Mood::Rest || entry.since.is_some_and(|since| now.duration_since(since) < LATELY)
}
