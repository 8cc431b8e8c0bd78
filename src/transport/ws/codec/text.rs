//! UTF-8 across fragments (RFC 6455 sections 5.6 and 8.1).

/// A text that comes in pieces, which may cut a character.
///
/// Each piece is checked when it comes: a wrong byte is known before the rest of the message has been sent, and the
/// finished [`String`] needs no second look.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    /// The first bytes of a character whose last ones have not come yet.
    cut: [u8; 4],
    cut_len: u8,
}

/// No continuation of the bytes so far would be UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8;

impl Text {
    pub(super) fn len(&self) -> usize {
        self.text.len() + usize::from(self.cut_len)
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), NotUtf8> {
        while self.cut_len > 0 {
            let Some((&next, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            // A character has at most four bytes, and three that are only begun leave room for the fourth.
            self.cut[usize::from(self.cut_len)] = next;
            self.cut_len += 1;
            match str::from_utf8(&self.cut[..usize::from(self.cut_len)]) {
                Ok(character) => {
                    self.text.push_str(character);
                    self.cut_len = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(NotUtf8),
                Err(_) => {}
            }
        }
        let cut = match str::from_utf8(bytes) {
            Ok(text) => {
                self.text.push_str(text);
                return Ok(());
            }
            Err(error) if error.error_len().is_some() => return Err(NotUtf8),
            Err(error) => {
                let (valid, cut) = bytes.split_at(error.valid_up_to());
                self.text
                    .push_str(str::from_utf8(valid).map_err(|_| NotUtf8)?);
                cut
            }
        };
        self.cut[..cut.len()].copy_from_slice(cut);
        self.cut_len = cut.len() as u8;
        Ok(())
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.text.capacity()
    }

    /// The whole text, unless it ends inside a character.
    pub(super) fn finish(self) -> Result<String, NotUtf8> {
        if self.cut_len > 0 {
            return Err(NotUtf8);
        }
        Ok(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the pieces fail, as an offset into all bytes; `None` where they do not.
    fn fails_at(bytes: &[u8]) -> Option<usize> {
        let mut text = Text::default();
        bytes.iter().position(|byte| text.push(&[*byte]).is_err())
    }

    #[test]
    fn a_wrong_byte_is_known_when_it_comes() {
        assert_eq!(fails_at(b"ok \xCE\xBA\xE1\xBD\xB9"), None);
        // A surrogate, a code point beyond U+10FFFF, an overlong slash, a lone continuation.
        assert_eq!(fails_at(b"\xED\xA0\x80"), Some(1));
        assert_eq!(fails_at(b"\xF4\x90\x80\x80"), Some(1));
        assert_eq!(fails_at(b"\xC0\xAF"), Some(0));
        assert_eq!(fails_at(b"ab\x80"), Some(2));
        assert_eq!(fails_at(b"\xE1\xBD\x20"), Some(2));
    }

    proptest! {
        #[test]
        fn pieces_agree_with_the_whole(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..12),
                "\\PC{0,12}".prop_map(String::into_bytes),
            ],
            cuts in proptest::collection::vec(0usize..40, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut text = Text::default();
            let pushed = cuts.windows(2).try_for_each(|w| text.push(&bytes[w[0]..w[1]]));
            let len = text.len();
            let finished = pushed.and_then(|()| text.finish());
            match String::from_utf8(bytes) {
                Ok(whole) => {
                    prop_assert_eq!(len, whole.len());
                    prop_assert_eq!(finished, Ok(whole));
                }
                Err(_) => prop_assert_eq!(finished, Err(NotUtf8)),
            }
        }
    }
}
