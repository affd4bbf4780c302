//! Sections, settings and comments.
//!
//! A line opens a section (`NAME {`), gives a setting (`KEY: VALUE`), closes a section (`}`), or is empty or a comment
//! (`#` in front); nothing else may share a line with a brace. White space is blanks and tabs. Which of the first three a line
//! is, is decided in this order by the first character that it holds anywhere, so `a: {` opens a section called `a:`.

/// corosync reads a line in pieces of at most this many bytes, line end included.
const PIECE_SIZE: usize = 511;

/// Longest line, line end excluded.
const MAX_LINE_SIZE: usize = PIECE_SIZE - 1;

/// Longest path of a section or setting: names of all sections around it, joined by dots, one dot more at the front.
const MAX_PATH_SIZE: usize = 254;

/// Shortest path of a setting.
const MIN_PATH_SIZE: usize = 3;

/// A whole file. Borrows names and values from the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<'a> {
    /// What is outside of all sections.
    pub items: Vec<Item<'a>>,
}

/// A line, or the lines of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// `KEY: VALUE`.
    Setting(Setting<'a>),
    /// `NAME {` up to its `}`.
    Section(Section<'a>),
}

/// `KEY: VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'a> {
    /// Letters, digits and `._-/:`, without white space around. A dot in it counts as a level.
    pub key: &'a [u8],
    /// Any bytes but NUL and line ends, without white space around. May be empty.
    pub value: &'a [u8],
    /// Where it stands, counted from 1.
    pub line: usize,
}

/// `NAME {` up to its `}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    /// Any bytes but NUL, `{` and line ends, without white space around.
    pub name: &'a [u8],
    /// Content in the order of the file. Names may repeat; corosync takes sections of one name as one section, and the last
    /// setting of one key.
    pub items: Vec<Item<'a>>,
    /// Where it opens, counted from 1.
    pub line: usize,
}

/// Why corosync refuses to read a text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct SyntaxError {
    /// Counted from 1; for a missing brace the last line.
    pub line: usize,
    /// What is wrong there.
    #[source]
    pub kind: SyntaxErrorKind,
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxErrorKind {
    /// More bytes than corosync's buffer holds. A NUL in a line has the same effect.
    #[error("the line is too long, or holds a NUL: corosync reads at most 510 bytes")]
    LineTooLong,
    /// `NAME { ...`.
    #[error("text behind '{{': what belongs to the section starts on the next line")]
    TextBehindOpeningBrace,
    /// `{` alone.
    #[error("'{{' without the name of a section in front of it")]
    NamelessSection,
    /// Names of the sections around, and of this one, add up to too much.
    #[error(
        "the names of the sections around this line add up to more than 252 bytes: use shorter ones"
    )]
    PathTooLong,
    /// Characters that corosync does not store, or too few of them.
    #[error(
        "'{0}' cannot be a key: it takes at least three letters, digits and any of \"._-/:\", names of sections included"
    )]
    BadKey(String),
    /// Neither brace nor colon.
    #[error("neither 'KEY: VALUE', nor the start or end of a section")]
    NotASetting,
    /// `} ...` or `... }`.
    #[error("text beside '}}': it has to be on a line of its own")]
    TextBesideClosingBrace,
    /// One `}` too many.
    #[error("'}}' closes nothing: remove it, or look for a section that was closed twice")]
    UnexpectedClosingBrace,
    /// One `}` too few.
    #[error("the section '{name}' of line {line} is not closed: add a '}}'")]
    MissingClosingBrace {
        /// Name of the innermost open section.
        name: String,
        /// Where it opens.
        line: usize,
    },
}

impl<'a> Document<'a> {
    /// Reads a text as corosync does.
    ///
    /// # Errors
    /// The first line that corosync stumbles over.
    pub fn parse(text: &'a [u8]) -> Result<Self, SyntaxError> {
        let mut parser = Parser::default();
        let mut rest = text;
        while !rest.is_empty() {
            parser.line += 1;
            let result = next_line(&mut rest).and_then(|line| parser.read(line));
            result.map_err(|kind| parser.error(kind))?;
        }
        parser.finish()
    }

    /// The text in its plainest form: two blanks per level, fewer where the line would get too long; no comments, no empty
    /// lines. Reading it gives the same document but for the line numbers.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut out = Vec::new();
        render_items(&self.items, 0, &mut out);
        out
    }

    /// Every section in the order of the file, with its path: the names of the sections around it and its own, joined by
    /// dots.
    #[must_use]
    pub fn sections(&self) -> Vec<(Vec<u8>, &Section<'a>)> {
        let mut found = Vec::new();
        collect_sections(&self.items, &[], &mut found);
        found
    }
}

impl<'a> Section<'a> {
    /// The settings directly in it.
    pub fn settings(&self) -> impl Iterator<Item = &Setting<'a>> {
        self.items.iter().filter_map(|item| match item {
            Item::Setting(setting) => Some(setting),
            Item::Section(_) => None,
        })
    }
}

/// Depth is bounded by [`MAX_PATH_SIZE`]: each level takes two bytes of it.
fn render_items(items: &[Item<'_>], depth: usize, out: &mut Vec<u8>) {
    for item in items {
        match item {
            Item::Setting(Setting { key, value: [], .. }) => {
                render_line(depth, &[key, b":"], out);
            }
            Item::Setting(Setting { key, value, .. }) => {
                let has_room = key.len() + value.len() + 2 < MAX_LINE_SIZE;
                let colon: &[u8] = if has_room { b": " } else { b":" };
                render_line(depth, &[key, colon, value], out);
            }
            Item::Section(section) => {
                render_line(depth, &[section.name, b" {"], out);
                render_items(&section.items, depth + 1, out);
                render_line(depth, &[b"}"], out);
            }
        }
    }
}

fn render_line(depth: usize, parts: &[&[u8]], out: &mut Vec<u8>) {
    let mut body = parts.concat();
    if body.ends_with(b"\r") {
        body.push(b'\r');
    }
    let indent = (2 * depth).min(MAX_LINE_SIZE.saturating_sub(body.len()));
    out.resize(out.len() + indent, b' ');
    out.append(&mut body);
    out.push(b'\n');
}

/// Depth is bounded as in [`render_items`].
fn collect_sections<'d, 'a>(
    items: &'d [Item<'a>],
    path: &[u8],
    found: &mut Vec<(Vec<u8>, &'d Section<'a>)>,
) {
    for item in items {
        if let Item::Section(section) = item {
            let path = join(path, section.name);
            found.push((path.clone(), section));
            collect_sections(&section.items, &path, found);
        }
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        name.to_vec()
    } else {
        [path, b".", name].concat()
    }
}

/// Takes the next line off `rest`: without its line end, a carriage return in front of that, and what follows a NUL.
fn next_line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], SyntaxErrorKind> {
    let window = &rest[..rest.len().min(PIECE_SIZE)];
    let end = window.iter().position(|byte| *byte == b'\n');
    let (piece, behind) = rest.split_at(end.map_or(window.len(), |end| end + 1));
    *rest = behind;
    let is_last = end.is_none() && piece.len() < PIECE_SIZE;
    let line = piece.split(|byte| *byte == 0).next().unwrap_or_default();
    let line = match line.strip_suffix(b"\n") {
        Some(line) => line,
        None if is_last || line.is_empty() => line,
        None => return Err(SyntaxErrorKind::LineTooLong),
    };
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

#[derive(Default)]
struct Parser<'a> {
    line: usize,
    /// Items of the innermost section that is open, or those outside of all.
    items: Vec<Item<'a>>,
    open: Vec<Open<'a>>,
    path: Vec<u8>,
}

/// A section that is not closed yet.
struct Open<'a> {
    name: &'a [u8],
    line: usize,
    /// Items in front of it, in the section around it.
    items_around: Vec<Item<'a>>,
    path_size_around: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, kind: SyntaxErrorKind) -> SyntaxError {
        let line = self.line;
        SyntaxError { line, kind }
    }

    fn read(&mut self, line: &'a [u8]) -> Result<(), SyntaxErrorKind> {
        let line = trim(line);
        if line.is_empty() || line.starts_with(b"#") {
            Ok(())
        } else if let Some((name, behind)) = split_at_byte(line, b'{') {
            if !behind.is_empty() {
                return Err(SyntaxErrorKind::TextBehindOpeningBrace);
            }
            self.open(name)
        } else if let Some((key, value)) = split_at_byte(line, b':') {
            self.set(key, value)
        } else if line == b"}" {
            self.close()
        } else if line.contains(&b'}') {
            Err(SyntaxErrorKind::TextBesideClosingBrace)
        } else {
            Err(SyntaxErrorKind::NotASetting)
        }
    }

    fn open(&mut self, name: &'a [u8]) -> Result<(), SyntaxErrorKind> {
        if name.is_empty() {
            return Err(SyntaxErrorKind::NamelessSection);
        }
        let path = self.path_of(name)?;
        self.open.push(Open {
            name,
            line: self.line,
            items_around: std::mem::take(&mut self.items),
            path_size_around: self.path.len(),
        });
        self.path = path;
        Ok(())
    }

    fn set(&mut self, key: &'a [u8], value: &'a [u8]) -> Result<(), SyntaxErrorKind> {
        let path = self.path_of(key)?;
        let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(byte);
        if path.len() < MIN_PATH_SIZE || !path.iter().all(is_good) {
            let path = path.escape_ascii().to_string();
            return Err(SyntaxErrorKind::BadKey(path));
        }
        let line = self.line;
        self.items.push(Item::Setting(Setting { key, value, line }));
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxErrorKind> {
        let open = self
            .open
            .pop()
            .ok_or(SyntaxErrorKind::UnexpectedClosingBrace)?;
        let section = Section {
            name: open.name,
            items: std::mem::replace(&mut self.items, open.items_around),
            line: open.line,
        };
        self.items.push(Item::Section(section));
        self.path.truncate(open.path_size_around);
        Ok(())
    }

    fn path_of(&self, name: &[u8]) -> Result<Vec<u8>, SyntaxErrorKind> {
        if self.path.len() + 1 + name.len() > MAX_PATH_SIZE {
            return Err(SyntaxErrorKind::PathTooLong);
        }
        Ok(join(&self.path, name))
    }

    fn finish(self) -> Result<Document<'a>, SyntaxError> {
        let Some(open) = self.open.last() else {
            return Ok(Document { items: self.items });
        };
        Err(self.error(SyntaxErrorKind::MissingClosingBrace {
            name: open.name.escape_ascii().to_string(),
            line: open.line,
        }))
    }
}

/// Both sides without white space around.
fn split_at_byte(line: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let place = line.iter().position(|byte| *byte == separator)?;
    let (front, back) = line.split_at(place);
    Some((trim(front), trim(&back[1..])))
}

/// Blanks and tabs only: corosync takes no other character for white space here.
fn trim(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(is_text)
        .map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &[u8]) -> (usize, SyntaxErrorKind) {
        let error = Document::parse(text).expect_err("corosync refuses it");
        (error.line, error.kind)
    }

    #[test]
    fn white_space_comments_and_line_ends_do_not_matter() {
        let text = b"\t# a comment {\r\ntotem{\n\n  version \t:\t 2 \t\r\n} \t\r\nabc: x # y\nempty:\nopen:{\n}";
        let document = Document::parse(text).expect("good");
        let plain = b"totem {\n  version: 2\n}\nabc: x # y\nempty:\nopen: {\n}\n";
        assert_eq!(
            document.render().escape_ascii().to_string(),
            plain.escape_ascii().to_string()
        );
        let Item::Section(totem) = &document.items[0] else {
            panic!("totem is a section");
        };
        let version = totem.settings().next().expect("it has a version");
        assert_eq!((totem.line, version.line), (2, 4));
    }

    #[test]
    fn the_line_that_is_wrong_is_named() {
        use SyntaxErrorKind as Kind;
        let bad_key = |key: &str| Kind::BadKey(key.to_owned());
        let unclosed = |name: &str, line| Kind::MissingClosingBrace {
            name: name.to_owned(),
            line,
        };
        let table: [(&[u8], usize, Kind); 16] = [
            (
                b"abc: x\ntotem { version: 2\n}",
                2,
                Kind::TextBehindOpeningBrace,
            ),
            (b"totem { }", 1, Kind::TextBehindOpeningBrace),
            (b"totem { # comment\n}", 1, Kind::TextBehindOpeningBrace),
            (b"\n {\n}", 2, Kind::NamelessSection),
            (b"totem {\n} x", 2, Kind::TextBesideClosingBrace),
            (b"totem {\nx }", 2, Kind::TextBesideClosingBrace),
            (b"totem {\n}\n}", 3, Kind::UnexpectedClosingBrace),
            (b"a {\nb {\n}\n# end", 4, unclosed("a", 1)),
            (b"a {\nb {", 2, unclosed("b", 2)),
            (b"version 2", 1, Kind::NotASetting),
            (b"\x0c\n", 1, Kind::NotASetting),
            (b": x", 1, bad_key("")),
            (b"ab: x", 1, bad_key("ab")),
            (b"a b {\nc: x\n}", 2, bad_key("a b.c")),
            (
                b"\xef\xbb\xbftotem {\nversion: 2\n}",
                2,
                bad_key(r"\xef\xbb\xbftotem.version"),
            ),
            (b"abc: x\0y\n", 1, Kind::LineTooLong),
        ];
        for (text, line, kind) in table {
            assert_eq!(error_of(text), (line, kind), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn lines_are_read_in_pieces_of_511_bytes() {
        let setting =
            |value_size: usize, end: &str| format!("abc: {}{end}", "x".repeat(value_size));
        assert!(Document::parse(setting(505, "\n").as_bytes()).is_ok());
        assert!(Document::parse(setting(505, "").as_bytes()).is_ok());
        for long in [
            setting(506, "\n"),
            setting(506, ""),
            setting(506, "\nabc: x\n"),
        ] {
            assert_eq!(error_of(long.as_bytes()), (1, SyntaxErrorKind::LineTooLong));
        }
        let hidden = |size: usize| [&b"\0"[..], &vec![b'y'; size], b"\nabc: x\n"].concat();
        assert_eq!(Document::parse(&hidden(509)).expect("good").items.len(), 1);
        assert_eq!(error_of(&hidden(511)), (2, SyntaxErrorKind::NotASetting));
    }

    #[test]
    fn depth_is_bounded_by_the_size_of_a_path() {
        let nested = |depth: usize| format!("{}{}", "a {\n".repeat(depth), "}\n".repeat(depth));
        assert!(Document::parse(nested(127).as_bytes()).is_ok());
        assert_eq!(
            error_of(nested(128).as_bytes()),
            (128, SyntaxErrorKind::PathTooLong)
        );
        let section = |size: usize| format!("{} {{\nabc: x\n}}\n", "a".repeat(size));
        assert!(Document::parse(section(250).as_bytes()).is_ok());
        assert_eq!(
            error_of(section(251).as_bytes()),
            (2, SyntaxErrorKind::PathTooLong)
        );
        assert_eq!(
            error_of(section(254).as_bytes()),
            (1, SyntaxErrorKind::PathTooLong)
        );
    }
}
