//! Which places of a batch are asked for.

use std::fmt;

/// The places of a batch at which a model answers, in ascending order.
///
/// A place is (example, pos); flat row `example * seq_len + pos` numbers the rows of a
/// `[batch, pos, d]` tensor seen as `[batch * pos, d]`. The order is fixed so that a kernel can
/// walk each example once, and so that row `i` of a result always belongs to query `i`.
///
/// # Example
///
/// ```
/// use mnemoscope_engine::QueryRows;
///
/// // Example 0 is asked at pos 3, example 1 at pos 0 and 2; sequences have four places.
/// let rows = QueryRows::new(4, vec![(0, 3), (1, 0), (1, 2)]);
/// assert_eq!(rows.flat(), [3, 4, 6]);
/// assert_eq!(rows.place(2), (1, 2));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct QueryRows {
    seq_len: usize,
    flat: Vec<u32>,
}

impl QueryRows {
    /// The rows of the given (example, pos) places.
    ///
    /// # Panics
    ///
    /// If `seq_len` is zero, a pos lies outside `0..seq_len`, the places are not strictly
    /// ascending, or a flat row does not fit 32 bits. Each is a bug in the caller.
    #[must_use]
    #[track_caller]
    pub fn new(seq_len: usize, places: Vec<(u32, u32)>) -> Self {
        assert!(seq_len > 0, "seq_len is 0: there is no place to ask at");
        let mut flat: Vec<u32> = Vec::with_capacity(places.len());
        for (example, pos) in places {
            assert!((pos as usize) < seq_len, "query pos {pos} is outside 0..{seq_len}");
            let row = u64::from(example) * seq_len as u64 + u64::from(pos);
            let row = u32::try_from(row).unwrap_or_else(|_| {
                panic!("example {example} of {seq_len} places: the row does not fit 32 bits")
            });
            if let Some(&last) = flat.last() {
                assert!(last < row, "queries must ascend: row {row} comes after row {last}");
            }
            flat.push(row);
        }
        Self { seq_len, flat }
    }

    /// Every place of `n_examples` sequences.
    #[must_use]
    #[track_caller]
    pub fn all(n_examples: usize, seq_len: usize) -> Self {
        assert!(seq_len > 0, "seq_len is 0: there is no place to ask at");
        let n_rows = n_examples.checked_mul(seq_len).and_then(|n| u32::try_from(n).ok());
        let n_rows = n_rows.unwrap_or_else(|| {
            panic!("{n_examples} examples of {seq_len} places do not fit 32 bits")
        });
        Self { seq_len, flat: (0..n_rows).collect() }
    }

    /// How many places are asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flat.len()
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flat.is_empty()
    }

    /// Places in one sequence.
    #[must_use]
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The flat rows `example * seq_len + pos`, strictly ascending.
    #[must_use]
    pub fn flat(&self) -> &[u32] {
        &self.flat
    }

    /// (example, pos) of query `query_idx`.
    ///
    /// # Panics
    ///
    /// If there is no such query.
    #[must_use]
    #[track_caller]
    pub fn place(&self, query_idx: usize) -> (u32, u32) {
        let row = self.flat[query_idx] as usize;
        ((row / self.seq_len) as u32, (row % self.seq_len) as u32)
    }

    /// (example, pos) of every query, in order.
    pub fn places(&self) -> impl ExactSizeIterator<Item = (u32, u32)> + '_ {
        (0..self.len()).map(|query_idx| self.place(query_idx))
    }

    /// The range of query indices of each of `n_examples` examples; empty where none is asked.
    ///
    /// # Panics
    ///
    /// If a query belongs to an example outside `0..n_examples`.
    #[must_use]
    #[track_caller]
    pub fn by_example(&self, n_examples: usize) -> Vec<std::ops::Range<usize>> {
        if let Some((example, _)) = self.len().checked_sub(1).map(|last| self.place(last)) {
            assert!(
                (example as usize) < n_examples,
                "a query asks example {example} of a batch of {n_examples}"
            );
        }
        let mut start = 0;
        (0..n_examples)
            .map(|example| {
                let bound = (example + 1) * self.seq_len;
                let n_here = self.flat[start..].partition_point(|&row| (row as usize) < bound);
                let range = start..start + n_here;
                start += n_here;
                range
            })
            .collect()
    }
}

impl fmt::Debug for QueryRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryRows")
            .field("seq_len", &self.seq_len)
            .field("n_queries", &self.len())
            .field("first", &self.flat.first())
            .field("last", &self.flat.last())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_grouped_by_example_even_where_none_is_asked() {
        let rows = QueryRows::new(4, vec![(1, 0), (1, 3), (3, 2)]);
        assert_eq!(rows.by_example(5), [0..0, 0..2, 2..2, 2..3, 3..3]);
        assert_eq!(rows.places().collect::<Vec<_>>(), [(1, 0), (1, 3), (3, 2)]);
    }

    #[test]
    fn all_places_are_every_row_once() {
        let rows = QueryRows::all(2, 3);
        assert_eq!(rows.flat(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(rows.by_example(2), [0..3, 3..6]);
    }

    #[test]
    fn no_query_is_a_legal_request() {
        let rows = QueryRows::new(7, Vec::new());
        assert!(rows.is_empty());
        assert_eq!(rows.by_example(2), [0..0, 0..0]);
    }
}
