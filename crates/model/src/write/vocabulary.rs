//! Spellings of made-up tokens.
//!
//! A vocabulary decides how many tokens a text becomes, and a tokenizer aborts on one that lacks a byte or spells
//! two tokens alike. So a made-up one starts with all bytes and goes on with letter combinations, the commonest
//! English letters first: pairs, pairs after a space, then pairs of pairs. English comes out at roughly two to three
//! characters a token, against four for a trained vocabulary.

/// Letters by how common they are in English text (Norvig 2013, from Google's books).
const LETTERS: &[u8; 26] = b"etaoinsrhldcumfpgwybvkxjqz";
/// GPT-2's stand-in for a space.
const BPE_SPACE: &str = "Ġ";
/// SentencePiece's stand-in for a space.
const PIECE_SPACE: &str = "▁";

/// A token and the two shorter ones it is merged from, which come before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merged {
    pub left: String,
    pub right: String,
}

impl Merged {
    /// Its spelling.
    pub fn text(&self) -> String {
        format!("{}{}", self.left, self.right)
    }
}

/// Byte-level BPE: the 256 bytes as GPT-2 spells them.
pub(super) fn bpe_bytes() -> impl Iterator<Item = String> {
    (0..=255).map(|byte| byte_char(byte).to_string())
}

/// Merges of byte-level BPE, by rank: about 458,000.
pub(super) fn bpe_merges() -> impl Iterator<Item = Merged> {
    merges(BPE_SPACE)
}

/// SentencePiece: the space and the visible ASCII characters, which merges are made of.
pub(super) fn piece_characters() -> impl Iterator<Item = String> {
    std::iter::once(PIECE_SPACE.to_owned()).chain((b'!'..=b'~').map(|byte| char::from(byte).to_string()))
}

/// Pieces of several characters, by falling score.
pub(super) fn piece_merges() -> impl Iterator<Item = Merged> {
    merges(PIECE_SPACE)
}

fn merges(space: &'static str) -> impl Iterator<Item = Merged> {
    let letters = LETTERS.map(|letter| char::from(letter).to_string());
    let pairs: Vec<Merged> = diagonal(letters.len())
        .map(|(left, right)| Merged { left: letters[left].clone(), right: letters[right].clone() })
        .collect();
    let texts: Vec<String> = pairs.iter().map(Merged::text).collect();
    let spaced: Vec<Merged> =
        texts.iter().map(|text| Merged { left: space.into(), right: text.clone() }).collect();
    let quads = diagonal(texts.len())
        .map(move |(left, right)| Merged { left: texts[left].clone(), right: texts[right].clone() });
    pairs.into_iter().chain(spaced).chain(quads)
}

/// All pairs of numbers below `size`, by rising sum.
fn diagonal(size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..(2 * size).saturating_sub(1)).flat_map(move |sum| {
        (sum.saturating_sub(size - 1)..=sum.min(size - 1)).map(move |left| (left, sum - left))
    })
}

/// GPT-2's printable stand-in for a byte: itself where it is printable, else the next free character from U+0100
/// on, in the order of the bytes (`bytes_to_unicode` of its encoder).
pub(super) fn byte_char(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&lower| !printable(lower)).count() as u32;
    char::from_u32(0x100 + rank).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn byte_characters_are_gpt2s() {
        // Spot values of `bytes_to_unicode`.
        for (byte, character) in
            [(0x00, 'Ā'), (b'\n', 'Ċ'), (b' ', 'Ġ'), (b'A', 'A'), (0x7f, 'ġ'), (0xad, 'Ń')]
        {
            assert_eq!(byte_char(byte), character, "{byte:#x}");
        }
        let all: HashSet<_> = (0..=255).map(byte_char).collect();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn every_pair_once() {
        let pairs: Vec<_> = diagonal(5).collect();
        assert_eq!(pairs.len(), 25);
        assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), 25);
        assert_eq!(pairs[..3], [(0, 0), (0, 1), (1, 0)]);
    }

    #[test]
    fn merges_are_distinct_and_made_of_earlier_tokens() {
        for (start, merges) in [
            (bpe_bytes().collect::<Vec<_>>(), bpe_merges().take(70_000).collect::<Vec<_>>()),
            (piece_characters().collect(), piece_merges().take(70_000).collect()),
        ] {
            let mut known: HashSet<String> = start.into_iter().collect();
            for merge in merges {
                assert!(known.contains(&merge.left) && known.contains(&merge.right), "{merge:?}");
                assert!(known.insert(merge.text()), "{merge:?} twice");
            }
        }
        assert!(bpe_merges().count() > 262_144, "enough for the largest vocabulary");
    }
}
