//! Counting: the answer is a whole number, too large to be guessed in the later tasks.

use super::{Draw, Question, strings::LONG};

const PETS: [&str; 6] = ["cat", "dog", "fish", "bird", "horse", "mouse"];

/// Words of a list, then one word among others, then letters of a word, then letters of a whole sentence.
pub(super) fn count(number: usize, draw: &mut Draw) -> Question {
    match number {
        0..6 => {
            let words = draw.some(&LONG, number + 2);
            let text = format!("How many words are in this list: {}?", words.join(", "));
            Question::number(("How many words are in this list: red, blue?", "2"), text, words.len() as i64)
        }
        6..11 => {
            let pet = *draw.of(&PETS);
            let words: Vec<&str> = (0..number + 2).map(|_| *draw.of(&[pet, "cow"])).collect();
            let answer = words.iter().filter(|word| **word == pet).count() as i64;
            let text = format!("How many times is \"{pet}\" in this list: {}?", words.join(", "));
            Question::number(("How many times is \"red\" in this list: red, blue, red?", "2"), text, answer)
        }
        11..15 => {
            let word: String = draw.some(&LONG, number - 10).concat();
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
