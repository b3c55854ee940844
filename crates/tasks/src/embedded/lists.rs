//! Ordering and short logic: the answer is a name, a number or a list.

use super::{Draw, Question, strings::LONG};
use std::fmt::Display;

const NAMES: [&str; 12] =
    ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Ida", "Jonas", "Klara", "Leo"];

/// Two or three numbers, then longer lists, words, and lists of both lengths downwards.
pub(super) fn order(number: usize, draw: &mut Draw) -> Question {
    let up = ("Sort from smallest to largest: 8, 3, 5", "3, 5, 8");
    let down = ("Sort from largest to smallest: 3, 8, 5", "8, 5, 3");
    let alphabet = ("Sort by the alphabet: tree, ball, moon", "ball, moon, tree");
    let (count, high) = match number {
        0..3 => (3, 9),
        3..6 => (4, 20),
        6..9 => (5, 99),
        9..12 => (4, 99),
        12..14 => (4, 0),
        14..16 => (6, 0),
        16..18 => (8, 99),
        _ => (10, 999),
    };
    if high == 0 {
        let words = draw.some(&LONG, count);
        let mut sorted = words.clone();
        sorted.sort_unstable();
        return Question::words(alphabet, format!("Sort by the alphabet: {}", list(&words)), list(&sorted));
    }
    let numbers = draw.numbers(count, 1, high);
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    if (9..12).contains(&number) || number == 19 {
        sorted.reverse();
        return Question::words(
            down,
            format!("Sort from largest to smallest: {}", list(&numbers)),
            list(&sorted),
        );
    }
    Question::words(up, format!("Sort from smallest to largest: {}", list(&numbers)), list(&sorted))
}

/// Series of numbers, then who is the tallest, then the order of all.
pub(super) fn deduce(number: usize, draw: &mut Draw) -> Question {
    match number {
        0..4 => {
            let (start, step) = (draw.within(1, 9), draw.within(2, 5));
            series(start, |last| last + step)
        }
        4..6 => {
            let (start, step) = (draw.within(60, 99), draw.within(6, 9));
            series(start, |last| last - step)
        }
        6..8 => {
            let start = draw.within(2, 5);
            series(start, |last| last * 3)
        }
        8..10 => series(draw.within(3, 9), |last| last * 2 + 1),
        10..14 => {
            let people = draw.some(&NAMES, number - 6);
            tallest(&people)
        }
        14..16 => {
            let people = draw.some(&NAMES, 4);
            seats(&people, draw)
        }
        _ => {
            let people = draw.some(&NAMES, number - 11);
            all_by_height(&people, draw)
        }
    }
}

fn series(start: i64, next: impl Fn(i64) -> i64) -> Question {
    let mut terms = vec![start];
    while terms.len() < 5 {
        terms.push(next(terms[terms.len() - 1]));
    }
    let answer = terms[4];
    let text = format!("Which number comes next: {}?", list(&terms[..4]));
    Question::number(("Which number comes next: 10, 20, 30, 40?", "50"), text, answer)
}

fn tallest(people: &[&str]) -> Question {
    let facts: Vec<_> =
        people.windows(2).rev().map(|pair| format!("{} is taller than {}.", pair[0], pair[1])).collect();
    let example = ("Max is taller than Tom. Tom is taller than Sam. Who is the tallest?", "Max");
    Question::words(example, format!("{} Who is the tallest?", facts.join(" ")), people[0].into())
}

fn seats(people: &[&str], draw: &mut Draw) -> Question {
    let mut facts: Vec<_> =
        people.windows(2).map(|pair| format!("{} sits directly left of {}.", pair[0], pair[1])).collect();
    facts = draw.some(&facts, facts.len());
    let example =
        ("Max sits directly left of Tom. Tom sits directly left of Sam. Who is second from the left?", "Tom");
    Question::words(example, format!("{} Who is third from the left?", facts.join(" ")), people[2].into())
}

fn all_by_height(people: &[&str], draw: &mut Draw) -> Question {
    let facts: Vec<_> =
        people.windows(2).map(|pair| format!("{} is taller than {}.", pair[0], pair[1])).collect();
    let facts = draw.some(&facts, facts.len());
    let mut upwards = people.to_vec();
    upwards.reverse();
    let example =
        ("Tom is taller than Sam. Max is taller than Tom. Name all, the shortest first.", "Sam, Tom, Max");
    Question::words(example, format!("{} Name all, the shortest first.", facts.join(" ")), list(&upwards))
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
