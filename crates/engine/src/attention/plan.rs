//! Which cells are worth computing for all rows together.

use super::{ROWS_MAX, TILE};

/// A tile is computed for all rows of a block when at least one in this many of its pairs (token, cell) counts. A pair
/// computed alone costs about 2.5 times its share of a tile (measured on one processor with AVX-512).
const DENSE_ONE_IN: usize = 3;
/// The mask's entry for a cell that the token may see: +0 as a 16-bit float.
const SEEN: u16 = 0;
/// For one that it may not see: negative infinity.
const UNSEEN: u16 = 0xfc00;

/// Some cells of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// The first.
    pub start: usize,
    /// How many, up to [`TILE`].
    pub len: usize,
    /// Whether every token of the block may see every cell, so that the mask need not be looked at.
    pub clear: bool,
}

/// Tokens whose rows are computed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The first.
    pub token: usize,
    /// How many.
    pub tokens: usize,
    /// What is computed for all of them.
    pub dense: Vec<Tile>,
    /// What they see outside of the dense tiles: (cell, number of the token in the block), in the order of cells, which
    /// is that of memory.
    pub own: Vec<(u32, u32)>,
}

/// How a mask is worked through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Consecutive tokens.
    pub blocks: Vec<Block>,
}

impl Plan {
    /// Sort the cells of `mask`: `tokens` rows of `cells` entries, added to scores. `ratio` query heads share each
    /// head of keys and values.
    pub fn new(mask: &[u16], tokens: usize, cells: usize, ratio: usize) -> Self {
        let each = (ROWS_MAX / ratio).max(1);
        let block = |token| Block::new(mask, token, each.min(tokens - token), cells);
        Self { blocks: (0..tokens).step_by(each).map(block).collect() }
    }
}

impl Block {
    fn new(mask: &[u16], token: usize, tokens: usize, cells: usize) -> Self {
        let mut block = Self { token, tokens, dense: Vec::new(), own: Vec::new() };
        for start in (0..cells).step_by(TILE) {
            let len = TILE.min(cells - start);
            let rows = || (token..token + tokens).map(|t| &mask[t * cells + start..][..len]);
            let count = |entry: u16| -> usize {
                rows().map(|row| row.iter().filter(|&&cell| cell == entry).count()).sum()
            };
            let all = tokens * len;
            let live = all - count(UNSEEN);
            if live * DENSE_ONE_IN >= all {
                block.dense.push(Tile { start, len, clear: count(SEEN) == all });
            } else if live > 0 {
                for cell in 0..len {
                    let seeing = rows().enumerate().filter(|(_, row)| row[cell] != UNSEEN);
                    block.own.extend(seeing.map(|(token, _)| ((start + cell) as u32, token as u32)));
                }
            }
        }
        block
    }
}
