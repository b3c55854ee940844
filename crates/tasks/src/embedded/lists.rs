//! Ordering and short logic: the answer is a name, a number or a list.

use super::{Draw, Question, strings::LONG};
use std::fmt::Display;

const NAMES: [&str; 12] =
    ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Ida", "Jonas", "Klara", "Leo"];

/// Two numbers, then the largest of three, then longer lists, words, and a list downwards.
pub(super) fn order(number: usize, draw: &mut Draw) -> Question {
    let up = ("Sort from smallest to largest: 8, 3, 5", "3, 5, 8");
    let down = ("Sort from largest to smallest: 3, 8, 5", "8, 5, 3");
    let alphabet = ("Sort by the alphabet: tree, ball, moon", "ball, moon, tree");
    let (count, high) = match number {
        0..4 => {
            let [low, high] = [draw.within(1, 4), draw.within(5, 9)];
            let text = format!("Sort from smallest to largest: {high}, {low}");
            return Question::words(
                ("Sort from smallest to largest: 7, 2", "2, 7"),
                text,
                list(&[low, high]),
            );
        }
        4..7 => {
            let mut numbers = shuffled(draw, &(1..=30).collect::<Vec<i64>>(), 3);
            let largest = numbers.iter().copied().max().unwrap_or_default();
            if numbers[2] == largest {
                numbers.swap(1, 2); // who repeats the question has not answered it
            }
            let text = format!("Which number is the largest: {}?", list(&numbers));
            return Question::number(("Which number is the largest: 4, 9, 1?", "9"), text, largest);
        }
        7..12 => (3, 9),
        12..14 => (4, 20),
        14..16 => (4, 0),
        16 => (6, 0),
        17 => (5, 99),
        18 => (8, 99),
        _ => (10, 999),
    };
    if high == 0 {
        let words = shuffled(draw, &LONG, count);
        let mut sorted = words.clone();
        sorted.sort_unstable();
        return Question::words(alphabet, format!("Sort by the alphabet: {}", list(&words)), list(&sorted));
    }
    let numbers = shuffled(draw, &(1..=high).collect::<Vec<i64>>(), count);
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    if number == 19 {
        sorted.reverse();
        return Question::words(
            down,
            format!("Sort from largest to smallest: {}", list(&numbers)),
            list(&sorted),
        );
    }
    Question::words(up, format!("Sort from smallest to largest: {}", list(&numbers)), list(&sorted))
}

/// Patterns and series, then who is the tallest, then the order of all.
pub(super) fn deduce(number: usize, draw: &mut Draw) -> Question {
    match number {
        0..3 => series(draw.within(2, 30), |last| last + 1),
        3..7 => {
            let pair = draw.some(&LONG, 2);
            let text = format!("What comes next: {0}, {1}, {0}, {1}, {0}?", pair[0], pair[1]);
            Question::words(("What comes next: red, blue, red, blue, red?", "blue"), text, pair[1].into())
        }
        7..10 => series(draw.within(1, 9) * 2, |last| last + 2),
        10..12 => {
            let (start, step) = (draw.within(1, 9), draw.within(3, 5));
            series(start, |last| last + step)
        }
        12 => {
            let (start, step) = (draw.within(60, 99), draw.within(6, 9));
            series(start, |last| last - step)
        }
        13..16 => {
            let people = draw.some(&NAMES, number - 10);
            tallest(&people)
        }
        16 => series(draw.within(3, 9), |last| last * 2 + 1),
        17 => {
            let people = draw.some(&NAMES, 4);
            seats(&people, draw)
        }
        _ => {
            let people = draw.some(&NAMES, number - 13);
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

/// So many of them, not in order, upwards or downwards, by chance.
fn shuffled<T: Clone + Ord>(draw: &mut Draw, all: &[T], count: usize) -> Vec<T> {
    loop {
        let drawn = draw.some(all, count);
        if !drawn.is_sorted() && !drawn.iter().rev().is_sorted() {
            return drawn;
        }
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
