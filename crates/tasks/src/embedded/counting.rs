//! Counting: the answer is a whole number, too large to be guessed in the later tasks.

use super::{Draw, Question, strings::LONG};

const PETS: [&str; 6] = ["cat", "dog", "fish", "bird", "horse", "mouse"];

/// Counting aloud, then words of a list, one word among others, letters of a word, letters of a whole sentence.
pub(super) fn count(number: usize, draw: &mut Draw) -> Question {
    match number {
        0..7 => {
            let first = draw.within(1, 10 * number as i64 + 4);
            let last = first + 3 + number as i64 / 2;
            let all: Vec<_> = (first..=last).map(|n| n.to_string()).collect();
            let text = format!("Count from {first} to {last}.");
            Question::words(("Count from 5 to 8.", "5, 6, 7, 8"), text, all.join(", "))
        }
        7..11 => {
            let words = draw.some(&LONG, number - 5);
            let text = format!("How many words are in this list: {}?", words.join(", "));
            Question::number(("How many words are in this list: red, blue?", "2"), text, words.len() as i64)
        }
        11..14 => {
            let pet = *draw.of(&PETS);
            let words: Vec<&str> = (0..number - 6).map(|_| *draw.of(&[pet, "cow"])).collect();
            let answer = words.iter().filter(|word| **word == pet).count() as i64;
            let text = format!("How many times is \"{pet}\" in this list: {}?", words.join(", "));
            Question::number(("How many times is \"red\" in this list: red, blue, red?", "2"), text, answer)
        }
        14 => {
            let word = draw.some(&LONG, 2).concat();
            let text = format!("How many letters has \"{word}\"?");
            Question::number(("How many letters has \"tree\"?", "4"), text, word.len() as i64)
        }
        15..17 => {
            let ones: Vec<String> = (0..26).map(|_| draw.within(0, 1).to_string()).collect();
            let answer = ones.iter().filter(|digit| *digit == "1").count() as i64;
            let text = format!("How many ones are in {}?", ones.concat());
            Question::number(("How many ones are in 0110?", "2"), text, answer)
        }
        _ => {
            let words = draw.some(&LONG, 3 * number - 43);
            let vowels = words.concat().chars().filter(|c| "aeiou".contains(*c)).count() as i64;
            let text = format!("How many vowels are in \"{}\"?", words.join(" "));
            Question::number(("How many vowels are in \"red tree\"?", "3"), text, vowels)
        }
    }
}
