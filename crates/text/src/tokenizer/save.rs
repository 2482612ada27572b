//! Writing a tokenizer so that transformers' `AutoTokenizer` opens the folder: `tokenizer.json`,
//! `tokenizer_config.json`, and `vocab.txt` or `vocab.json` and `merges.txt` where the class reads them.

use super::Tokenizer;
use selfsup_core::checkpoint::{fault, unique, write_text};
use selfsup_core::{Error, Result};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::path::Path;
use tokenizers::Model;
use tokenizers::models::ModelWrapper;

impl Tokenizer {
    /// Writes the tokenizer into `folder`; `longest` is the longest sequence of the model. A folder that has
    /// `tokenizer.json` has all of it, whenever the process is killed.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>, longest: Option<usize>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let aside = folder.join(format!(".{}.tmp", unique()));
        let done = self.save_by_way_of(&aside, folder, longest);
        // On success it is empty, and nothing reads it after a failure.
        let _ = std::fs::remove_dir_all(&aside);
        done
    }

    /// Writes all files into `aside`, then moves them, `tokenizer.json` last: where that is, all of them are.
    fn save_by_way_of(&self, aside: &Path, folder: &Path, longest: Option<usize>) -> Result<()> {
        std::fs::create_dir(aside).map_err(|e| Error::io(aside, e))?;
        let mut names = vec!["tokenizer_config.json".to_string(), "tokenizer.json".to_string()];
        let write = |name: &str, text: String| write_text(&aside.join(name), &text);
        let json = self.inner.to_string(true).map_err(|e| Error::file(folder.join("tokenizer.json"), e))?;
        write("tokenizer.json", json)?;
        if let ModelWrapper::WordPiece(_) = self.inner.get_model() {
            let lines: Vec<String> = (0..self.size() as u32)
                .map(|id| self.token(id).unwrap_or_else(|| format!("[unused{id}]")))
                .collect();
            write("vocab.txt", lines.join("\n") + "\n")?;
            names.insert(0, "vocab.txt".into());
        }
        if let ModelWrapper::BPE(bpe) = self.inner.get_model() {
            for file in bpe.save(aside, None).map_err(|e| Error::file(folder, e))? {
                let synced = File::open(&file).and_then(|f| f.sync_all());
                synced.map_err(|e| Error::io(&file, e))?;
                names.insert(0, file.file_name().unwrap_or_default().to_string_lossy().into_owned());
            }
        }
        let text = serde_json::to_string_pretty(&self.config(longest)).map_err(|e| Error::file(folder, e))?;
        write("tokenizer_config.json", text + "\n")?;
        for name in names {
            let to = folder.join(&name);
            fault::point(&to)?;
            std::fs::rename(aside.join(&name), &to).map_err(|e| Error::io(&to, e))?;
        }
        Ok(())
    }

    fn config(&self, longest: Option<usize>) -> Value {
        let mut config = Map::new();
        // The class that reads tokenizer.json as it is, whatever the model.
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        if let Some(n) = longest {
            config.insert("model_max_length".into(), n.into());
        }
        for (key, id) in self.special.keys() {
            if let Some(token) = id.and_then(|id| self.token(id)) {
                config.insert(key.into(), token.into());
            }
        }
        if let ModelWrapper::WordPiece(_) = self.inner.get_model() {
            // BERT and ELECTRA tell the texts of a pair apart; the class leaves their types out unless it is
            // told.
            config
                .insert("model_input_names".into(), json!(["input_ids", "token_type_ids", "attention_mask"]));
        }
        // transformers adds a cleaning step of its own unless told not to.
        config.insert("clean_up_tokenization_spaces".into(), json!(false));
        if !self.special.sentinels.is_empty() {
            let names: Vec<String> = self.special.sentinels.iter().filter_map(|id| self.token(*id)).collect();
            config.insert("extra_special_tokens".into(), json!(names));
        }
        Value::Object(config)
    }
}
