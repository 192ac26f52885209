//! The oracle of the stories: what the light is, read from the words of a prompt alone.
//!
//! It knows no string and no token. It looks back from the end of the text for the last sentence in
//! which Alice turns the light, and its last word is the answer. It imports nothing from what tells the
//! stories; the words are written out here a second time, on purpose.

/// What the light is at the end of a story, `on` or `off`; `None` if Alice never turned it.
///
/// # Example
///
/// ```
/// use mnemoscope_task::story::oracle;
///
/// let prompt = "Alice turns the light on. Then, Alice turns the light off. Now, the light is";
/// assert_eq!(oracle::light(prompt), Some("off"));
/// assert_eq!(oracle::light("Bob eats an apple. Now, the light is"), None);
/// ```
#[must_use]
pub fn light(prompt: &str) -> Option<&str> {
    const SWITCH: &str = "Alice turns the light ";
    let after = prompt.rfind(SWITCH)? + SWITCH.len();
    prompt[after..].split('.').next()
}

/// Sentences from the last one in which Alice turns the light to the question; 1 if nothing stands
/// between them. It is the distance in instructions where every read is told.
#[must_use]
pub fn n_sentences_back(prompt: &str) -> Option<usize> {
    let from = prompt.rfind("Alice turns the light ")?;
    Some(prompt[from..].matches('.').count())
}
