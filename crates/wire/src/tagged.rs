//! What becomes of tagged fields (KIP-482) that a message table does not know?

use bytes::Bytes;

/// Unknown tagged fields of one struct, in ascending order of their tags. Empty ones, the rule, take one pointer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::box_collection)] // one pointer: the struct around it is in arrays of thousands
pub struct TaggedFields(Option<Box<Vec<(u32, Bytes)>>>);

impl TaggedFields {
    /// Adds a field, after those with the same or a smaller tag.
    pub fn push(&mut self, tag: u32, value: Bytes) {
        let fields = self.0.get_or_insert_with(Box::default);
        let at = match fields.last() {
            Some((last, _)) if *last > tag => fields.partition_point(|(other, _)| *other <= tag),
            _ => fields.len(),
        };
        fields.insert(at, (tag, value));
    }

    /// Adds a field at the end; [`TaggedFields::sort`] must follow. Sorting once keeps a hostile order from costing n².
    pub(crate) fn push_unsorted(&mut self, tag: u32, value: Bytes) {
        self.0.get_or_insert_with(Box::default).push((tag, value));
    }

    pub(crate) fn sort(&mut self) {
        if let Some(fields) = &mut self.0 {
            fields.sort_by_key(|(tag, _)| *tag);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |fields| fields.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The fields by ascending tag.
    pub fn iter(&self) -> std::slice::Iter<'_, (u32, Bytes)> {
        self.0.as_ref().map_or([].iter(), |fields| fields.iter())
    }
}

impl<'a> IntoIterator for &'a TaggedFields {
    type Item = &'a (u32, Bytes);
    type IntoIter = std::slice::Iter<'a, (u32, Bytes)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
