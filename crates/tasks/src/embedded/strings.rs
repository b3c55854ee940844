//! Edits of a word: the answer is a word.

use super::{Draw, Question};

pub(super) const SHORT: [&str; 16] = [
    "sun", "map", "box", "net", "cup", "dog", "pen", "fig", "ton", "rib", "ham", "lid", "jug", "wax", "oak",
    "bay",
];
pub(super) const LONG: [&str; 16] = [
    "planet", "garden", "window", "bridge", "copper", "silver", "basket", "candle", "forest", "guitar",
    "island", "jacket", "kitten", "market", "orange", "pencil",
];

/// Copying, then a letter of the word, then a change inside, then the word backwards.
pub(super) fn edit(number: usize, draw: &mut Draw) -> Question {
    let short = *draw.of(&SHORT);
    let long = *draw.of(&LONG);
    let letters: Vec<char> = long.chars().collect();
    match number {
        0..3 => Question::words(
            ("Repeat the word house.", "house"),
            format!("Repeat the word {long}."),
            long.into(),
        ),
        3..6 => Question::words(
            ("Write HOUSE in small letters.", "house"),
            format!("Write {} in small letters.", long.to_uppercase()),
            long.into(),
        ),
        6..9 => Question::words(
            ("Write \"car\" twice, joined by a dash.", "car-car"),
            format!("Write \"{short}\" twice, joined by a dash."),
            format!("{short}-{short}"),
        ),
        9..11 => Question::words(
            ("What is the first letter of house?", "h"),
            format!("What is the first letter of {long}?"),
            letters[0].into(),
        ),
        11..13 => Question::words(
            ("What is the last letter of house?", "e"),
            format!("What is the last letter of {long}?"),
            letters[letters.len() - 1].into(),
        ),
        13..15 => Question::words(
            ("Write \"table\" without its last letter.", "tabl"),
            format!("Write \"{long}\" without its last letter."),
            letters[..letters.len() - 1].iter().collect(),
        ),
        15 => {
            let old = letters[2];
            let text = format!("Replace the letter {old} with z in \"{long}\".");
            let answer = long.replace(old, "z");
            Question::words(("Replace the letter b with z in \"table\".", "tazle"), text, answer)
        }
        16 => Question::words(
            ("Write \"cat\" backwards.", "tac"),
            format!("Write \"{short}\" backwards."),
            short.chars().rev().collect(),
        ),
        17 => Question::words(
            ("Write every second letter of \"table\", the first one included.", "tbe"),
            format!("Write every second letter of \"{long}\", the first one included."),
            letters.iter().step_by(2).collect(),
        ),
        _ => Question::words(
            ("Write \"table\" backwards.", "elbat"),
            format!("Write \"{long}\" backwards."),
            letters.iter().rev().collect(),
        ),
    }
}
