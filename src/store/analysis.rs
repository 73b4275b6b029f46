//! Words as search compares them, the same for every database: what is indexed and what is asked are both made here, so a
//! database only has to find equal strings.
//!
//! A word stands in the index under several forms: as it was written without accents and case, and by its English and
//! French stems. A word that is asked for matches by any of its forms, so nobody has to say which language a message is in.

use std::collections::BTreeSet;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longer words are cut: nobody types more, and databases bound what they index.
const WORD_BYTES_MAX: usize = 64;

/// Begins a form that is no word: [`author`].
const MARK: char = '§';

/// What a message can be found by.
pub(super) type Document = BTreeSet<String>;

/// What is looked for: every one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// Any of these forms.
    Any(Vec<String>),
    /// Any form that begins so.
    Prefix(String),
}

/// The forms of all words of a body, and of who said it.
pub(super) fn document(body: &str, author: &str) -> Document {
    let mut forms: Document = words(body).iter().flat_map(|word| forms_of(word)).collect();
    forms.insert(author_form(author));
    forms
}

impl Query {
    /// `None` when there is no word in it: that finds nothing.
    pub(super) fn parse(text: &str, author: Option<&str>) -> Option<Self> {
        let mut words = words(text);
        let prefix =
            text.trim_end().ends_with('*').then(|| words.pop().map(|word| Term::Prefix(folded(&word)))).flatten();
        let whole = words.iter().map(|word| Term::Any(forms_of(word).into_iter().collect()));
        let mut terms: Vec<Term> = whole.chain(prefix).collect();
        if terms.is_empty() {
            return None;
        }
        terms.extend(author.map(|author| Term::Any(vec![author_form(author)])));
        Some(Self { terms })
    }

    /// What the databases' own look-ups amount to.
    pub(super) fn finds(&self, document: &Document) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Any(forms) => forms.iter().any(|form| document.contains(form)),
            Term::Prefix(begin) => document.range(begin.clone()..).next().is_some_and(|form| form.starts_with(begin)),
        })
    }
}

/// In hexadecimal, for an index that takes words apart at anything that is no letter.
fn author_form(author: &str) -> String {
    use std::fmt::Write as _;
    author.bytes().fold(String::from(MARK), |mut form, byte| {
        write!(form, "{byte:02x}").expect("writing to a String does not fail");
        form
    })
}

/// In lower case, accents kept.
fn words(text: &str) -> Vec<String> {
    let lower: String = text.nfkc().flat_map(char::to_lowercase).nfc().collect();
    let inside = |c: char| c.is_alphanumeric() || is_combining_mark(c);
    let parts = lower.split(|c| !inside(c)).map(|word| word.trim_start_matches(is_combining_mark));
    parts.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn forms_of(word: &str) -> BTreeSet<String> {
    let (english, french) = (Stemmer::create(Algorithm::English), Stemmer::create(Algorithm::French));
    let plain = folded(word);
    // French endings are told by their accents, which not everybody types.
    let forms = [cut(&english.stem(&plain)), cut(&french.stem(&plain)), folded(&french.stem(word)), plain];
    forms.into_iter().filter(|form| !form.is_empty()).collect()
}

/// Without accents and ligatures.
fn folded(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    for c in word.nfkd().filter(|c| !is_combining_mark(*c)) {
        match c {
            'œ' => plain.push_str("oe"),
            'æ' => plain.push_str("ae"),
            'ß' => plain.push_str("ss"),
            c => plain.push(c),
        }
    }
    cut(&plain)
}

fn cut(word: &str) -> String {
    word[..word.floor_char_boundary(WORD_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(query: &str, body: &str) -> bool {
        Query::parse(query, None).is_some_and(|query| query.finds(&document(body, "alice")))
    }

    #[test]
    fn inflections_of_both_languages_are_one_word() {
        for (query, body) in [
            ("run", "she was running"),
            ("running", "he runs"),
            ("songs", "this song"),
            ("chanson", "deux chansons d'amour"),
            ("manger", "nous mangeons, vous mangez"),
            ("université", "les universités de Paris"),
            ("universites", "une université"),
            ("nationaux", "la nationale"),
        ] {
            assert!(finds(query, body), "{query} in {body}");
        }
        assert!(!finds("cat", "dog") && !finds("chat", "chien"));
    }

    #[test]
    fn accents_case_and_ligatures_do_not_count() {
        for (query, body) in [
            ("ETE", "un été à la mer"),
            ("été", "l'ete"),
            ("coeur", "mon cœur"),
            ("CŒUR", "coeur"),
            ("strasse", "Straße"),
            ("e\u{301}te\u{301}", "été"),
            ("①", "1"),
            ("שלום", "שָׁלוֹם עולם"),
        ] {
            assert!(finds(query, body), "{query} in {body}");
        }
    }

    #[test]
    fn every_word_must_be_there_and_only_the_last_may_be_begun() {
        assert!(finds("red guitars", "guitars, and they are red"));
        assert!(!finds("red guitars", "red boots"));
        assert!(finds("red gui*", "red guitars") && finds("gui* ", "guitars"));
        assert!(!finds("red gui", "red guitars"), "without a star it is a word");
        assert!(!finds("gui* red", "red guitars"), "only the last word");
        assert!(!finds("uit*", "guitars"));
    }

    #[test]
    fn without_a_word_nothing_is_found() {
        for query in ["", " ", "*", "?!", "'\"", "§"] {
            assert_eq!(Query::parse(query, None), None, "{query:?}");
            assert_eq!(Query::parse(query, Some("alice")), None, "{query:?}");
        }
    }

    #[test]
    fn an_author_is_no_word_and_a_word_no_author() {
        let document = document("bob says hello", "alice");
        assert!(Query::parse("hello", Some("alice")).unwrap().finds(&document));
        assert!(!Query::parse("hello", Some("bob")).unwrap().finds(&document));
        assert!(!Query::parse("alice", None).unwrap().finds(&document));
        assert!(!Query::parse("§616c696365", None).unwrap().finds(&document));
    }

    #[test]
    fn a_word_of_any_length_is_indexed_by_its_beginning() {
        let long = "ä".repeat(10_000);
        assert!(document(&long, "a").iter().all(|form| form.len() <= WORD_BYTES_MAX));
        assert!(finds(&long, &long) && finds(&format!("{long}*"), &long));
    }
}
