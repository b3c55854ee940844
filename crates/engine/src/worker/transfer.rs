//! Moving a sequence's state out of one worker and into another.
//!
//! The bytes are llama.cpp's; around them go the tokens they stand for, a checksum (llama.cpp accepts some
//! single bit flips) and the flash-attention setting (its two settings lay the values out differently). A state
//! that comes in becomes an entry of the prefix cache, so the request that wants it finds it like any other
//! known prefix, and nothing breaks if it never comes.

use super::prefix::Entry;
use super::stepper::{Clock, Stepper};
use crate::llama::Backend;
use crate::protocol::{Event, STATE_BYTES_MAX, STATE_CHUNK_BYTES, StateHeader, StateSource};
use crate::request::{FinishReason, Token};

/// States that may be on their way in at the same time: each is buffered whole.
const INCOMING_MAX: usize = 8;

/// A state on its way in.
#[derive(Debug)]
pub struct Incoming {
    header: StateHeader,
    bytes: Vec<u8>,
}

impl<B: Backend, C: Clock> Stepper<B, C> {
    /// Send the state of a sequence.
    pub fn export(&mut self, id: u64, from: &StateSource, detach: bool) {
        match self.state_of(from) {
            Err(why) => self.outbox.push(Event::ExportFailed { id, why }),
            Ok((header, bytes)) => {
                self.outbox.push(Event::State { id, header });
                let chunks = bytes.chunks(STATE_CHUNK_BYTES);
                self.outbox.extend(chunks.map(|chunk| Event::StateChunk { id, bytes: chunk.to_vec() }));
                if detach && let StateSource::Sample { request, sample } = *from {
                    self.end_moved(request, sample);
                }
            }
        }
    }

    fn end_moved(&mut self, request: u64, sample: u32) {
        if let Some((j, s)) = self.find(request, sample) {
            self.finish(j, s, FinishReason::Moved);
            self.reap();
        }
    }

    fn find(&self, request: u64, sample: u32) -> Option<(usize, usize)> {
        let j = self.jobs.iter().position(|job| job.id == request)?;
        let s = self.jobs[j].samples.iter().position(|s| s.index == sample)?;
        Some((j, s))
    }

    fn state_of(&mut self, from: &StateSource) -> Result<(StateHeader, Vec<u8>), String> {
        let (seq, tokens, emitted) = match from {
            StateSource::Sample { request, sample } => {
                let (j, s) = self
                    .find(*request, *sample)
                    .ok_or_else(|| format!("no sample {sample} of request {request} runs here"))?;
                let job = &self.jobs[j];
                let sample = &job.samples[s];
                let seq = sample.seq.ok_or("the sample has not started, or has ended")?;
                let mut tokens = job.tokens_of(s);
                tokens.truncate(sample.fed);
                (seq, tokens, sample.emitted.clone())
            }
            StateSource::Prefix(wanted) => {
                let found = self.cache.longest(wanted, false);
                let (entry, _) = found.ok_or("no cached prefix begins with these tokens")?;
                (entry.seq, entry.tokens.clone(), Vec::<Token>::new())
            }
        };
        let bytes = self.backend.export(seq).ok_or("the engine gave no state")?;
        let header = StateHeader {
            tokens,
            emitted,
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(&bytes),
            flash_attention: self.spec.flash_attention,
        };
        Ok((header, bytes))
    }

    /// Expect a state.
    pub fn import(&mut self, id: u64, header: StateHeader) {
        let known = |t: &Token| usize::try_from(*t).is_ok_and(|t| t < self.backend.vocab_tokens());
        let error = if header.bytes == 0 || header.bytes > STATE_BYTES_MAX {
            Some(format!("a state of {} bytes; accepted are 1 to {STATE_BYTES_MAX}", header.bytes))
        } else if !self.cache.fits(header.tokens.len()) {
            let room = self.spec.prefix_cache_tokens;
            Some(format!("a state of {} tokens; the prefix cache holds up to {room}", header.tokens.len()))
        } else if header.flash_attention != self.spec.flash_attention {
            Some("flash attention is on at one end and off at the other".into())
        } else if !header.tokens.iter().all(known) {
            Some("the state's tokens are not all in this model's vocabulary".into())
        } else if self.incoming.len() >= INCOMING_MAX {
            Some(format!("{INCOMING_MAX} states are on their way in already"))
        } else {
            None
        };
        if error.is_some() {
            self.outbox.push(Event::Imported { id, error });
        } else {
            self.incoming.insert(id, Incoming { header, bytes: Vec::new() });
        }
    }

    /// Take the next bytes of a state. Chunks of an import that was refused are ignored.
    pub fn import_chunk(&mut self, id: u64, chunk: &[u8]) {
        let Some(incoming) = self.incoming.get_mut(&id) else { return };
        let (have, whole) = ((incoming.bytes.len() + chunk.len()) as u64, incoming.header.bytes);
        if have <= whole {
            incoming.bytes.extend_from_slice(chunk);
            if have < whole {
                return;
            }
        }
        let Some(incoming) = self.incoming.remove(&id) else { return };
        let error = if have > whole {
            Some(format!("{have} bytes came, {whole} were announced"))
        } else {
            self.restore(incoming).err()
        };
        self.outbox.push(Event::Imported { id, error });
    }

    fn restore(&mut self, incoming: Incoming) -> Result<(), String> {
        let Incoming { header, bytes } = incoming;
        let crc32 = crc32fast::hash(&bytes);
        if crc32 != header.crc32 {
            return Err(format!("the state is damaged: CRC-32 {crc32:08x}, announced {:08x}", header.crc32));
        }
        // Sequences promised to samples that have not forked yet are not ours to take.
        let promised: u32 = self.jobs.iter().map(|job| job.promised).sum();
        if self.free.len() as u32 <= promised {
            let seq = self.cache.evict();
            self.release(seq);
        }
        if self.free.len() as u32 <= promised {
            return Err("no sequence is free".into());
        }
        let seq = self.free.pop_first().ok_or("no sequence is free")?;
        if !self.backend.import(seq, &bytes) {
            self.release([seq]);
            return Err("the engine refused the state: it comes from another model or another setting".into());
        }
        let freed = self.cache.insert(Entry { seq, tokens: header.tokens, logits: None });
        self.release(freed);
        Ok(())
    }
}
