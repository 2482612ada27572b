//! Texts on a page, and what a masked language model has learnt of them: its guesses for hidden words.

use super::Text;
use super::records::text_of;
use crate::modality::{Content, Drawing, Drawn, Draws, Shown, Shows};
use crate::set::Set;
use selfsup_core::{Key, Result, Scope};
use selfsup_text::batch::Sequences;
use selfsup_text::fill::fill_mask;
use selfsup_text::method::MaskedLm;
use selfsup_text::recipe::{Architecture, MethodConfig};

/// Tokens of a text that are read.
const TOKENS: usize = 32;
/// Guesses for each place.
const GUESSES: usize = 3;

/// Characters of a text that a page shows.
const SHOWN_CHARACTERS: usize = 280;

impl Shows for Text {
    fn show(&self, set: &Set, index: usize) -> Result<Shown> {
        let text = text_of(&**set.records(), index)?;
        let mut start: String = text.chars().take(SHOWN_CHARACTERS).collect();
        if start.len() < text.len() {
            start.push('…');
        }
        Ok(Shown::Text(start))
    }
}

impl Draws<Sequences> for Text {
    /// One hidden token of each text, with the likeliest tokens for its place.
    fn draw(&self, drawing: &Drawing<'_, Sequences>) -> Result<Vec<Drawn>> {
        let (Architecture::Bert(shape), MethodConfig::MaskedLm(config)) = self.recipe() else {
            return Ok(Vec::new());
        };
        let tokenizer = self.tokenizer();
        let Some(mask) = tokenizer.special().mask else { return Ok(Vec::new()) };
        // Over the tensors that are there: nothing is drawn at random.
        let scope = Scope::root(drawing.method.params(), 0, drawing.device);
        let model = MaskedLm::new(&scope, shape.clone(), config)?;
        let mut rows = vec![["text", "hidden", "guesses"].map(String::from).to_vec()];
        let mut right = 0;
        for i in 0..drawing.set.len() {
            let text = text_of(&**drawing.set.records(), i)?;
            let mut ids = tokenizer.example(&text, None, TOKENS.min(shape.longest()))?.ids;
            let around = tokenizer.around().min(2);
            if ids.len() < around + 3 {
                continue;
            }
            // Between the special tokens at both ends.
            let first = usize::from(around > 0);
            let place = first + Key::new(0).named("pictures").fold(i as u64).rng().below(ids.len() - around);
            let hidden = std::mem::replace(&mut ids[place], mask);
            let guesses = fill_mask(&model, &ids, mask, GUESSES)?;
            // The text may hold the mask token by itself.
            let earlier = ids[..place].iter().filter(|id| **id == mask).count();
            let Some(guesses) = guesses.get(earlier) else { continue };
            right += usize::from(guesses.first().is_some_and(|g| g.id == hidden));
            let said = guesses
                .iter()
                .map(|g| Ok(format!("{} {:.0}%", tokenizer.decode(&[g.id])?.trim(), 100.0 * g.probability)))
                .collect::<Result<Vec<_>>>()?;
            let (before, after) = (tokenizer.decode(&ids[..place])?, tokenizer.decode(&ids[place + 1..])?);
            rows.push(vec![
                format!("{} ▁▁▁ {}", before.trim(), after.trim()),
                tokenizer.decode(&[hidden])?.trim().to_string(),
                said.join(", "),
            ]);
        }
        if rows.len() == 1 {
            return Ok(Vec::new());
        }
        let caption = format!(
            "One token of each text is hidden; the likeliest tokens for its place with their probabilities. \
             The first guess is right for {right} of {}.",
            rows.len() - 1
        );
        Ok(vec![Drawn {
            name: "hidden-words",
            title: "Guesses for hidden words".into(),
            caption,
            content: Content::Table(rows),
        }])
    }
}
