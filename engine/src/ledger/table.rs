use std::collections::BTreeMap;

/// Rows of one kind: those that were loaded and what has become of them. A row that was not loaded is taken as absent, so
/// what a decision reads must have been asked for by [`super::Needs`].
#[derive(Debug, Clone)]
pub struct Table<K, V> {
    rows: BTreeMap<K, Slot<V>>,
}

#[derive(Debug, Clone)]
struct Slot<V> {
    /// Whether the store holds a row under this key.
    stored: bool,
    changed: bool,
    row: Option<V>,
}

/// What the store has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a, K, V> {
    Insert(&'a K, &'a V),
    Update(&'a K, &'a V),
    Delete(&'a K),
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new() }
    }
}

impl<K: Ord, V> Table<K, V> {
    /// A row as the store has it.
    pub fn load(&mut self, key: K, row: V) {
        self.rows.insert(key, Slot { stored: true, changed: false, row: Some(row) });
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)?.row.as_ref()
    }

    /// The row to be changed: it counts as changed from now on.
    pub(super) fn edit(&mut self, key: &K) -> Option<&mut V> {
        let slot = self.rows.get_mut(key)?;
        slot.changed = true;
        slot.row.as_mut()
    }

    pub(super) fn put(&mut self, key: K, row: V) {
        let slot = self.rows.entry(key).or_insert(Slot { stored: false, changed: true, row: None });
        (slot.changed, slot.row) = (true, Some(row));
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.rows.get_mut(key)?;
        slot.changed = true;
        slot.row.take()
    }

    /// The rows that are there, in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().filter_map(|(key, slot)| Some((key, slot.row.as_ref()?)))
    }

    /// The rows that are there from one key to another, both inclusive.
    pub fn range(&self, from: K, to: K) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(from..=to).filter_map(|(key, slot)| Some((key, slot.row.as_ref()?)))
    }

    pub(super) fn edit_range(&mut self, from: K, to: K, mut edit: impl FnMut(&K, &mut V) -> bool) {
        for (key, slot) in self.rows.range_mut(from..=to) {
            if let Some(row) = &mut slot.row {
                slot.changed |= edit(key, row);
            }
        }
    }

    /// Forgets rows without a change to the store: it removes them by a rule of its own.
    pub(super) fn forget(&mut self, mut which: impl FnMut(&K, &V) -> bool) {
        self.rows.retain(|key, slot| slot.row.as_ref().is_none_or(|row| !which(key, row)));
    }

    /// What differs from the store, in the order of the keys.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_, K, V>> {
        self.rows.iter().filter(|(_, slot)| slot.changed).filter_map(|(key, slot)| match (&slot.row, slot.stored) {
            (Some(row), false) => Some(Change::Insert(key, row)),
            (Some(row), true) => Some(Change::Update(key, row)),
            (None, true) => Some(Change::Delete(key)),
            (None, false) => None,
        })
    }

    /// The store holds everything now.
    pub(super) fn settle(&mut self) {
        self.rows.retain(|_, slot| {
            (slot.stored, slot.changed) = (true, false);
            slot.row.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_the_store_is_a_change() {
        let mut table = Table::default();
        table.load(1, "one");
        table.load(2, "two");
        table.load(3, "three");
        *table.edit(&1).unwrap() = "eins";
        table.remove(&2);
        table.put(4, "four");
        table.put(5, "five");
        table.remove(&5);
        let changes: Vec<_> = table.changes().collect();
        assert_eq!(changes, [Change::Update(&1, &"eins"), Change::Delete(&2), Change::Insert(&4, &"four")]);
        table.settle();
        assert_eq!(table.changes().count(), 0);
        assert_eq!(table.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn a_row_that_comes_back_is_updated() {
        let mut table = Table::default();
        table.load(1, "one");
        table.remove(&1);
        table.put(1, "again");
        assert_eq!(table.changes().collect::<Vec<_>>(), [Change::Update(&1, &"again")]);
    }
}
