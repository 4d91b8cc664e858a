//! Takes `{"results":[…],"last_seq":…}` apart while it arrives: element by element, never held whole.
//!
//! It only counts brackets and quotes. Whether an element is the JSON that was expected is for its reader to find out;
//! text that is no JSON gives elements that are none.

/// A JSON object of which one member or more is an array, cut into the elements of these arrays and the rest.
#[derive(Debug)]
pub struct Elements {
    depth: u32,
    in_text: bool,
    escaped: bool,
    /// Whether the outermost array (depth 2) is open.
    in_array: bool,
    element: Vec<u8>,
    rest: Vec<u8>,
    limit: usize,
}

/// An element, or the text around the elements, is larger than the limit (bytes).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a piece of the answer is larger than {0} bytes")]
pub struct Overlong(usize);

impl Elements {
    /// Begins; neither one element nor the rest may be larger than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { depth: 0, in_text: false, escaped: false, in_array: false, element: Vec::new(), rest: Vec::new(), limit }
    }

    /// Takes the next bytes and returns the elements that are complete now. However the input is cut, their sequence is
    /// the same.
    ///
    /// # Errors
    /// [`Overlong`].
    pub fn push(&mut self, data: &[u8]) -> Result<Vec<Vec<u8>>, Overlong> {
        let mut complete = Vec::new();
        for &byte in data {
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                self.keep(byte)?;
                continue;
            }
            match byte {
                b',' if self.in_array && self.depth == 2 => self.end_element(&mut complete),
                b']' if self.in_array && self.depth == 2 => {
                    self.end_element(&mut complete);
                    self.in_array = false;
                    self.depth = 1;
                    self.keep(byte)?;
                }
                b'[' if self.depth == 1 => {
                    self.keep(byte)?;
                    self.in_array = true;
                    self.depth = 2;
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    self.keep(byte)?;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.keep(byte)?;
                }
                // Only around elements: within them every byte is the client's own text.
                b' ' | b'\t' | b'\r' | b'\n' if !self.in_array || self.depth == 2 => {}
                b'"' => {
                    self.in_text = true;
                    self.keep(byte)?;
                }
                _ => self.keep(byte)?,
            }
        }
        Ok(complete)
    }

    /// What stood around the elements, with its arrays empty: `{"results":[],"last_seq":…}`.
    #[must_use]
    pub fn rest(self) -> Vec<u8> {
        self.rest
    }

    fn keep(&mut self, byte: u8) -> Result<(), Overlong> {
        let kept = if self.in_array { &mut self.element } else { &mut self.rest };
        if kept.len() >= self.limit {
            return Err(Overlong(self.limit));
        }
        kept.push(byte);
        Ok(())
    }

    fn end_element(&mut self, complete: &mut Vec<Vec<u8>>) {
        if !self.element.is_empty() {
            complete.push(std::mem::take(&mut self.element));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Elements, Overlong};

    fn read(text: &str, piece: usize) -> (Vec<String>, String) {
        let mut elements = Elements::new(1000);
        let mut found = Vec::new();
        for data in text.as_bytes().chunks(piece) {
            found.extend(elements.push(data).unwrap().into_iter().map(|element| String::from_utf8(element).unwrap()));
        }
        (found, String::from_utf8(elements.rest()).unwrap())
    }

    #[test]
    fn elements_come_whole_however_the_input_is_cut() {
        let feed = "{\"results\":[\n{\"seq\":\"1-x\",\"id\":\"a ] } , \\\" é\",\"changes\":[{\"rev\":\"1-a\"},{\"rev\":\"1-b\"}]},\r\n\
                    {\"seq\":null,\"id\":\"b\\\\\",\"changes\":[]}\n],\n\"last_seq\":\"2-[x\",\"pending\":0}\n\n";
        let expected = [
            "{\"seq\":\"1-x\",\"id\":\"a ] } , \\\" é\",\"changes\":[{\"rev\":\"1-a\"},{\"rev\":\"1-b\"}]}",
            "{\"seq\":null,\"id\":\"b\\\\\",\"changes\":[]}",
        ];
        for piece in [1, 2, 3, 7, 1000] {
            let (found, rest) = read(feed, piece);
            assert_eq!(found, expected, "{piece}");
            assert_eq!(rest, "{\"results\":[],\"last_seq\":\"2-[x\",\"pending\":0}", "{piece}");
        }
    }

    #[test]
    fn empty_arrays_plain_values_and_members_on_either_side() {
        assert_eq!(read("{\"results\":[ \n ]}", 1).0, Vec::<String>::new());
        let (found, rest) = read(
            "{\"last_seq\":[7,\"x\"] , \"results\":[1, \"two\" ,[3,[4]],{ \"k\" : [5 , 6] } \n],\"z\":{\"a\":[5]}}",
            3,
        );
        assert_eq!(found, ["7", "\"x\"", "1", "\"two\"", "[3,[4]]", "{ \"k\" : [5 , 6] }"]);
        assert_eq!(rest, "{\"last_seq\":[],\"results\":[],\"z\":{\"a\":[5]}}");
        assert_eq!(read("<html>}}]]", 4).0, Vec::<String>::new());
    }

    #[test]
    fn nothing_grows_without_end() {
        let mut elements = Elements::new(4);
        assert_eq!(elements.push(b"{\"a\""), Ok(Vec::new()));
        assert_eq!(elements.push(b":"), Err(Overlong(4)));
        let mut elements = Elements::new(9);
        assert_eq!(elements.push(b"{\"a\":[1234,123456789"), Ok(vec![b"1234".to_vec()]));
        assert_eq!(elements.push(b"0"), Err(Overlong(9)));
    }
}
