//! Past a JSON value without reading it: where it ends is all that is asked.
//!
//! Most of a review's bytes are of no concern here (`managedFields`, a status, a template that stays as it is). Only
//! quotes, backslashes and brackets decide where a value ends, so 64 bytes at a time become four masks, one bit a byte,
//! and the rest is arithmetic on these. What is passed over is not checked: it came from the API server, which made it
//! from an object, and nothing of it goes into the answer.

use wide::u8x16;

/// The bytes that are looked at together.
const BLOCK: usize = u64::BITS as usize;

/// The length of the value that the text begins with; `None` where it doesn't end, or there is none.
pub(super) fn past_value(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => past_string(text),
        b'{' | b'[' => past_collection(text),
        _ => {
            let end = text.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'));
            Some(end.unwrap_or(text.len())).filter(|length| *length > 0)
        }
    }
}

/// The length of the string that the text begins with, its quotes included.
fn past_string(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The length of the object or list that the text begins with.
fn past_collection(text: &[u8]) -> Option<usize> {
    let (mut strings, mut depth) = (Strings::default(), 0);
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    for (index, block) in blocks.iter().enumerate() {
        if let Some(end) = end_in(block, &mut strings, &mut depth) {
            return Some(index * BLOCK + end);
        }
    }
    // Blanks mean nothing, wherever they are.
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    end_in(&last, &mut strings, &mut depth).map(|end| blocks.len() * BLOCK + end)
}

/// Where in this block the collection ends, whose brackets so far are `depth` deep.
fn end_in(block: &[u8; BLOCK], strings: &mut Strings, depth: &mut u32) -> Option<usize> {
    let marks = Marks::of(block);
    let outside = !strings.inside(marks.quotes, marks.backslashes);
    let (opening, closing) = (marks.opening & outside, marks.closing & outside);
    let closed = closing.count_ones();
    if closed < *depth {
        // It can't end here.
        *depth = *depth - closed + opening.count_ones();
        return None;
    }
    let mut left = opening | closing;
    while left != 0 {
        let first = left & left.wrapping_neg();
        if opening & first != 0 {
            *depth += 1;
        } else {
            *depth -= 1;
            if *depth == 0 {
                return Some(first.trailing_zeros() as usize + 1);
            }
        }
        left ^= first;
    }
    None
}

/// Where in a block something stands that matters: one bit for each byte, the lowest for the first.
#[derive(Default)]
struct Marks {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

impl Marks {
    fn of(block: &[u8; BLOCK]) -> Marks {
        let mut marks = Marks::default();
        for (index, bytes) in block.as_chunks().0.iter().enumerate() {
            let bytes = u8x16::new(*bytes);
            // ASCII has brackets and braces 0x20 apart.
            let braces = bytes | u8x16::splat(b'{' ^ b'[');
            let equal = |bytes: u8x16, byte| u64::from(bytes.simd_eq(u8x16::splat(byte)).to_bitmask()) << (16 * index);
            marks.quotes |= equal(bytes, b'"');
            marks.backslashes |= equal(bytes, b'\\');
            marks.opening |= equal(braces, b'{');
            marks.closing |= equal(braces, b'}');
        }
        marks
    }
}

/// What the blocks before mean for the next one.
#[derive(Default)]
struct Strings {
    /// All ones, if it begins inside of a string.
    inside: u64,
    /// One, if its first byte is escaped.
    escaped: u64,
}

impl Strings {
    /// The bytes that are inside of strings, of which the opening quotes are part and the closing ones are not.
    fn inside(&mut self, quotes: u64, backslashes: u64) -> u64 {
        let escaped = self.escaped(backslashes);
        // Each bit becomes the parity of all up to it: one between an odd quote and the next.
        let mut inside = quotes & !escaped;
        for distance in [1, 2, 4, 8, 16, 32] {
            inside ^= inside << distance;
        }
        inside ^= self.inside;
        self.inside = (inside.cast_signed() >> (u64::BITS - 1)).cast_unsigned();
        inside
    }

    /// The bytes that a backslash before them escapes.
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let mut escaped = std::mem::take(&mut self.escaped);
        let mut left = backslashes & !escaped;
        while left != 0 {
            let first = left & left.wrapping_neg();
            let next = first << 1;
            escaped |= next;
            if next == 0 {
                self.escaped = 1;
            }
            left &= !(first | next);
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::admission::tests::trees::json_value;

    /// Values whose strings are full of what matters, at every place of a block.
    fn text() -> impl Strategy<Value = String> {
        let long = prop::collection::vec(("[\\[\\]{}\"\\\\a,:é]{0,70}", json_value()), 0..6);
        let value = prop_oneof![
            json_value(),
            long.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            prop::collection::vec(any::<String>(), 0..9).prop_map(Value::from),
        ];
        (value, any::<bool>()).prop_map(|(value, pretty)| match pretty {
            true => serde_json::to_string_pretty(&value).expect("JSON"),
            false => value.to_string(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_value_ends_where_it_ends_whatever_follows(text in text(), after in "([,\\]} \n][\\[\\]{}\"\\\\a]{0,80})?") {
            prop_assert_eq!(past_value(format!("{text}{after}").as_bytes()), Some(text.len()));
        }

        #[test]
        fn a_value_that_is_cut_does_not_end(text in text(), share in 0.0..1.0f64) {
            let cut = (text.len() as f64 * share) as usize;
            prop_assume!(text.starts_with(['{', '[', '"']));
            prop_assert_eq!(past_value(&text.as_bytes()[..cut]), None);
        }

        #[test]
        fn any_bytes_end_or_do_not(bytes in prop::collection::vec(prop_oneof![
            Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), any::<u8>(),
        ], 0..300)) {
            if let Some(length) = past_value(&bytes) {
                prop_assert!(0 < length && length <= bytes.len());
            }
        }
    }

    #[test]
    fn backslashes_count_across_blocks() {
        for before in 0..2 * BLOCK {
            for backslashes in 0..5 {
                // An even number of them leaves the quote what it is.
                let string = format!("[\"{}{}\"", "x".repeat(before), "\\".repeat(backslashes));
                let text = if backslashes % 2 == 0 { format!("{string}]") } else { format!("{string}]\"]") };
                assert_eq!(past_value(format!("{text}]}}\"").as_bytes()), Some(text.len()), "{text}");
            }
        }
    }
}
