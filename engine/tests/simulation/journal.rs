use veza_history::{Event, Record};

/// What clients did and saw, as the history checker reads it.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) records: Vec<Record>,
    calls: u64,
}

impl Journal {
    pub(crate) fn write(&mut self, at: u64, client: &str, event: Event) {
        self.records.push(Record { at, client: client.to_owned(), event });
    }

    pub(crate) fn call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }
}
