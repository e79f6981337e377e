//! Incremental parser of PostgreSQL's binary COPY format: bytes come in pieces of any size, rows go out.
//!
//! Format: `PGCOPY\n\xff\r\n\0`, 32 bits of flags, an extension area, then rows: a 16-bit count of fields, each a
//! 32-bit length (-1 is null) and its bytes; the count -1 ends it.
//! Source: PostgreSQL documentation, `COPY`, section "Binary Format".

use bytes::{Buf, BytesMut};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Largest field that is accepted, in bytes: a guard against answers that are no COPY data.
const FIELD_BYTES_MAX: usize = 1 << 20;

/// What the parser has seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Ended,
}

/// The parser.
#[derive(Debug)]
pub struct CopyParser {
    buffer: BytesMut,
    state: State,
    fields: usize,
    offsets: Vec<Option<(usize, usize)>>,
}

/// Fields of one row; `None` is null.
#[derive(Debug)]
pub struct CopyRow<'a> {
    bytes: &'a [u8],
    offsets: &'a [Option<(usize, usize)>],
}

impl<'a> CopyRow<'a> {
    /// The bytes of a field.
    pub fn field(&self, at: usize) -> Option<&'a [u8]> {
        self.offsets[at].map(|(start, length)| &self.bytes[start..start + length])
    }

    /// A float8 field.
    pub fn number(&self, at: usize) -> Result<Option<f64>, String> {
        self.field(at)
            .map(|bytes| Ok(f64::from_be_bytes(eight(bytes)?)))
            .transpose()
    }

    /// A field of type timestamp or timestamptz, as microseconds since 1970 UTC.
    pub fn instant(&self, at: usize) -> Result<Option<i64>, String> {
        // PostgreSQL counts from 2000; infinities are the largest and smallest numbers and stay that.
        const EPOCH_2000: i64 = 946_684_800_000_000;
        self.field(at)
            .map(|bytes| Ok(i64::from_be_bytes(eight(bytes)?).saturating_add(EPOCH_2000)))
            .transpose()
    }

    /// A text field.
    pub fn text(&self, at: usize) -> Result<Option<&'a str>, String> {
        self.field(at)
            .map(|bytes| std::str::from_utf8(bytes).map_err(|error| error.to_string()))
            .transpose()
    }
}

fn eight(bytes: &[u8]) -> Result<[u8; 8], String> {
    bytes
        .try_into()
        .map_err(|_| format!("a field of 8 bytes has {}", bytes.len()))
}

impl CopyParser {
    /// A parser of rows with this many fields.
    pub fn new(fields: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            state: State::Header,
            fields,
            offsets: Vec::with_capacity(fields),
        }
    }

    /// Takes the next piece and hands out every row that is complete.
    ///
    /// # Errors
    /// `each`'s own error, or what breaks the format.
    pub fn feed<E: From<String>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&CopyRow<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.buffer.extend_from_slice(piece);
        if self.state == State::Header && !self.header()? {
            return Ok(());
        }
        let mut used = 0;
        while self.state == State::Rows {
            let Some(length) = self.row(used)? else { break };
            if self.state == State::Rows {
                each(&CopyRow {
                    bytes: &self.buffer[used..],
                    offsets: &self.offsets,
                })?;
            }
            used += length;
        }
        self.buffer.advance(used);
        Ok(())
    }

    /// Says whether the answer was whole.
    ///
    /// # Errors
    /// When the end marker never came, or bytes follow it.
    pub fn finish(&self) -> Result<(), String> {
        match (self.state, self.buffer.len()) {
            (State::Ended, 0) => Ok(()),
            (State::Ended, left) => Err(format!("{left} bytes follow the end of the answer")),
            _ => Err("the answer ends in the middle".to_owned()),
        }
    }

    fn header(&mut self) -> Result<bool, String> {
        let have = self.buffer.len().min(SIGNATURE.len());
        if self.buffer[..have] != SIGNATURE[..have] {
            return Err("the answer is not in the binary COPY format".to_owned());
        }
        let Some(fixed) = self.buffer.get(11..19) else {
            return Ok(false);
        };
        let flags = u32::from_be_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]);
        // Bits 16 to 31 mark features that a reader must know; we know none.
        if flags >> 16 != 0 {
            return Err(format!(
                "the answer uses features that are not known (flags {flags:#x})"
            ));
        }
        let extension = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]) as usize;
        if extension > FIELD_BYTES_MAX {
            return Err(format!("the header's extension has {extension} bytes"));
        }
        if self.buffer.len() < 19 + extension {
            return Ok(false);
        }
        self.buffer.advance(19 + extension);
        self.state = State::Rows;
        Ok(true)
    }

    /// Finds the fields of the row that begins at `from`; returns its length, `None` while it is incomplete.
    fn row(&mut self, from: usize) -> Result<Option<usize>, String> {
        let bytes = &self.buffer[from..];
        let Some(count) = bytes.get(..2) else {
            return Ok(None);
        };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.state = State::Ended;
            return Ok(Some(2));
        }
        if usize::try_from(count) != Ok(self.fields) {
            return Err(format!(
                "a row has {count} fields, {} were asked for",
                self.fields
            ));
        }
        self.offsets.clear();
        let mut at = 2;
        for _ in 0..self.fields {
            let Some(length) = bytes.get(at..at + 4) else {
                return Ok(None);
            };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            at += 4;
            if length == -1 {
                self.offsets.push(None);
                continue;
            }
            let length = usize::try_from(length)
                .ok()
                .filter(|length| *length <= FIELD_BYTES_MAX)
                .ok_or_else(|| format!("a field has a length of {length} bytes"))?;
            self.offsets.push(Some((at, length)));
            at += length;
            if bytes.len() < at {
                return Ok(None);
            }
        }
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = (Option<f64>, Option<String>);

    fn encode(rows: &[Row]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 3, b'e', b'x', b't']);
        for (number, text) in rows {
            bytes.extend(2_i16.to_be_bytes());
            match number {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(number) => {
                    bytes.extend(8_i32.to_be_bytes());
                    bytes.extend(number.to_be_bytes());
                }
            }
            match text {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(text) => {
                    bytes.extend((text.len() as i32).to_be_bytes());
                    bytes.extend(text.as_bytes());
                }
            }
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Row>, String> {
        let mut parser = CopyParser::new(2);
        let mut rows = Vec::new();
        for piece in pieces {
            parser.feed(piece, |row| {
                rows.push((row.number(0)?, row.text(1)?.map(str::to_owned)));
                Ok::<(), String>(())
            })?;
        }
        parser.finish()?;
        Ok(rows)
    }

    proptest! {
        #[test]
        fn rows_come_out_whole_however_the_bytes_are_cut(
            rows in proptest::collection::vec((proptest::option::of(-1e9..1e9_f64), proptest::option::of(".{0,40}")), 0..30),
            size in 1..50_usize,
        ) {
            let bytes = encode(&rows);
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(decode(&pieces), Ok(rows));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&[&bytes]);
            let mut framed = SIGNATURE.to_vec();
            framed.extend([0; 8]);
            framed.extend(bytes);
            let _ = decode(&[&framed]);
        }
    }

    #[test]
    fn a_torn_answer_is_not_taken_for_a_short_one() {
        let bytes = encode(&[(Some(1.0), None), (None, Some("x".to_owned()))]);
        for end in 0..bytes.len() {
            assert!(
                decode(&[&bytes[..end]]).is_err(),
                "cut at {end} of {}",
                bytes.len()
            );
        }
        assert!(decode(&[&bytes, b"x"]).is_err());
        assert!(decode(&[b"HTTP/1.1 200 OK"]).is_err());
    }
}
