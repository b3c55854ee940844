//! Stop strings in a stream of bytes.
//!
//! A stop string may arrive over several tokens, and what has been sent cannot be taken back. So text is held
//! back exactly as long as it could still be the beginning of a stop string, at most
//! [`crate::request::STOP_STRING_BYTES_MAX`] − 1 bytes.

/// Watches one sample's text.
#[derive(Debug, Clone, Default)]
pub struct StopWatch {
    held: Vec<u8>,
}

impl StopWatch {
    /// Take the bytes of one more token. Returns the text that is certain now, and the number of the stop string
    /// that has just been completed (the earliest in the text, the longest of those).
    pub fn push(&mut self, bytes: &[u8], stops: &[String]) -> (Vec<u8>, Option<u32>) {
        self.held.extend_from_slice(bytes);
        let found = stops
            .iter()
            .enumerate()
            .filter_map(|(i, stop)| {
                find(&self.held, stop.as_bytes()).map(|at| (at, usize::MAX - stop.len(), i))
            })
            .min();
        if let Some((at, _, which)) = found {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return (text, Some(which as u32));
        }
        let keep = stops.iter().map(|stop| overlap(&self.held, stop.as_bytes())).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), None)
    }

    /// The text still held back, when the sample ends for another reason.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

/// Length of the longest proper prefix of `pattern` that `text` ends with.
fn overlap(text: &[u8], pattern: &[u8]) -> usize {
    (1..pattern.len().min(text.len() + 1)).rev().find(|&n| text.ends_with(&pattern[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        // (pieces, stops, text, which stop)
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a str, Option<u32>);
        let cases: &[Case] = &[
            (&["hello"], &[], "hello", None),
            (&["hel", "lo END tail"], &["END"], "hello ", Some(0)),
            (&["a E", "N", "D b"], &["END"], "a ", Some(0)),
            (&["a E", "N", "X b"], &["END"], "a ENX b", None),
            (&["aab"], &["ab"], "a", Some(0)),
            (&["x", "aa", "ab"], &["aab"], "xa", Some(0)),
            (&["one\n", "\ntwo"], &["\n\n", "\n"], "one", Some(1)),
            (&["ab", "cd"], &["bc", "abcd"], "", Some(1)),
            (&["ab"], &["abc"], "ab", None),
        ];
        for (pieces, stops, text, which) in cases {
            let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
            let mut watch = StopWatch::default();
            let (mut seen, mut hit) = (Vec::new(), None);
            for piece in *pieces {
                let (certain, stop) = watch.push(piece.as_bytes(), &stops);
                seen.extend(certain);
                hit = stop;
                if hit.is_some() {
                    break;
                }
            }
            seen.extend(watch.finish());
            assert_eq!(
                (String::from_utf8(seen).unwrap().as_str(), hit),
                (*text, *which),
                "{pieces:?} {stops:?}"
            );
        }
    }
}
