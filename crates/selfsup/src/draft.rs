//! The configuration as the command is given it: a TOML file, KEY=VALUE arguments and flags, parsed once.
//! What has to be known before its type is (the modality, the method, the run) is asked of it.

use selfsup_core::config::{self, Unread};
use selfsup_core::{Error, Result};
use selfsup_datasets::labels::{Columns, is_table};
use selfsup_datasets::{Kind, LabelFile, kind_of};
use std::path::{Path, PathBuf};

/// A configuration as it was given.
#[derive(Clone, Debug)]
pub struct Draft {
    layers: config::Draft,
    file: Option<PathBuf>,
    /// The file is that of a run: what it says was checked when the run began.
    of_run: bool,
}

impl Draft {
    /// Parses the text of `origin`.
    ///
    /// # Errors
    /// If it is not TOML, naming the line.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        Ok(Draft { layers: config::Draft::parse(text, origin)?, file: None, of_run: false })
    }

    /// Parses the arguments of a verb: a TOML file, if one of them is none of `KEY=VALUE`, and overrides.
    /// `flags` are keys that have a flag of their own; an argument wins over a flag. Without a file a run
    /// that goes on (`resumed`) has its own configuration.
    ///
    /// # Errors
    /// If there are two files, one cannot be read, or something is not TOML.
    pub fn read(args: &[String], flags: &[(&str, Option<String>)], resumed: Option<&Path>) -> Result<Self> {
        let (overrides, files): (Vec<&String>, Vec<&String>) = args.iter().partition(|a| a.contains('='));
        if let Some(second) = files.get(1) {
            return Err(Error::config(format!("{second}: expected KEY=VALUE (one file was given already)")));
        }
        let mut draft = match (files.first(), resumed) {
            (Some(file), _) => Draft { file: Some(file.into()), ..Draft::open(Path::new(file))? },
            (None, Some(run)) => Draft { of_run: true, ..Draft::open(&run.join("config.toml"))? },
            (None, None) => Draft::parse("", "command line")?,
        };
        for (key, value) in flags {
            if let Some(value) = value {
                draft.layers.set_text(key, value);
            }
        }
        overrides.into_iter().try_for_each(|o| draft.layers.set(o))?;
        Ok(draft)
    }

    fn open(path: &Path) -> Result<Self> {
        let text = selfsup_core::file::text(path)?;
        Draft::parse(&text, &path.display().to_string())
    }

    /// Adds overrides `KEY=VALUE`.
    ///
    /// # Errors
    /// If one has no key or no value.
    pub fn with(mut self, overrides: &[String]) -> Result<Self> {
        overrides.iter().try_for_each(|o| self.layers.set(o))?;
        Ok(self)
    }

    /// The same over a layer of keys that were chosen for it.
    #[must_use]
    pub fn above(mut self, chosen: toml::Table) -> Self {
        self.layers.below(chosen, "the plan");
        self
    }

    /// The same with a place for the samples where only a table of them is named (`data.labels`): the table
    /// itself if it holds texts, else its folder. A table of images, volumes or signals in `data.path` is taken as
    /// `data.labels`.
    #[must_use]
    pub fn located(mut self) -> Self {
        let named = |key: &str| self.layers.text(key).filter(|text| !text.is_empty());
        if let (Some(path), None) = (named("data.path"), named("data.labels"))
            && let Some(folder) = folder_of_table(path, &self.columns())
        {
            let table = path.to_string();
            self.layers.set_text("data.labels", &table);
            self.layers.set_text("data.path", &folder.display().to_string());
            return self;
        }
        if let (None, Some(labels)) = (named("data.path"), named("data.labels")) {
            let table = Path::new(labels);
            let holds_texts =
                LabelFile::read_with(table, &self.columns()).is_ok_and(|table| table.holds_texts());
            let folder = table.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let place = if holds_texts { table } else { folder }.display().to_string();
            self.layers.set_text("data.path", &place);
        }
        self
    }

    /// The columns that are named (`data.columns`).
    pub fn columns(&self) -> Columns {
        let named = |key: &str| self.layers.text(&format!("data.columns.{key}")).map(str::to_string);
        Columns {
            path: named("path"),
            label: named("label"),
            text: named("text"),
            mask: named("mask"),
            group: named("group"),
            split: named("split"),
        }
    }

    /// Sets who is asked for the owner of a key that is unknown in a modality.
    #[must_use]
    pub fn with_owner(mut self, owner: fn(&str) -> Option<String>) -> Self {
        self.layers.set_owner(owner);
        self
    }

    /// The layers, to read a configuration from.
    pub fn layers(&self) -> &config::Draft {
        &self.layers
    }

    /// Whether a file was given.
    pub fn has_file(&self) -> bool {
        self.layers.has_file()
    }

    /// The name of the file without its folder and ending.
    pub fn stem(&self) -> Option<String> {
        Some(self.file.as_ref()?.file_stem()?.to_string_lossy().into_owned())
    }

    /// The modality that is stated, if one is. Slices of volumes (`volumes.slices`) are images, whatever is
    /// said besides.
    ///
    /// # Errors
    /// If one is stated that does not exist.
    pub fn stated_kind(&self) -> Result<Option<Kind>> {
        if self.layers.get("volumes.slices").is_some() {
            return Ok(Some(Kind::Vision));
        }
        self.layers.get("modality").map(|v| Kind::named(v.as_str().unwrap_or_default())).transpose()
    }

    /// The name of the method, where it is given.
    pub fn method(&self) -> Option<&str> {
        self.layers.text("method.name")
    }

    /// The name of the encoder, where it is given.
    pub fn encoder(&self) -> Option<&str> {
        self.layers.text("encoder.name")
    }

    /// The data that the command line names.
    pub fn data_path(&self) -> Option<&str> {
        self.layers.overridden("data.path")?.as_str()
    }

    /// The run whose encoder is fine-tuned, where one is named.
    pub fn task_run(&self) -> Option<&Path> {
        self.layers.text("task.run").filter(|run| !run.is_empty()).map(Path::new)
    }

    /// Refuses keys that are given and that nothing reads.
    ///
    /// # Errors
    /// Naming place and key.
    pub fn refuse_unread<T: PartialEq>(
        &self,
        unread: &[Unread],
        config: &T,
        load: impl Fn(&Draft) -> Result<T>,
    ) -> Result<()> {
        if self.of_run {
            return Ok(());
        }
        let of = |layers: &config::Draft| load(&Draft { layers: layers.clone(), ..self.clone() });
        self.layers.refuse_unread(unread, config, &of)
    }
}

/// A larger table is a corpus of texts, and is not looked into.
const LARGEST_TABLE: u64 = 64 << 20;

/// The folder of a table whose rows are images, volumes or signals beside it; `None` for anything else. `columns`
/// names those whose own names do not say what they hold.
pub fn folder_of_table(path: &str, columns: &Columns) -> Option<PathBuf> {
    let table = Path::new(path);
    let small = std::fs::metadata(table).is_ok_and(|m| m.is_file() && m.len() <= LARGEST_TABLE);
    // Boxes of COCO are JSON too, and no table.
    if !small || !is_table(table) || !LabelFile::read_with(table, columns).is_ok_and(|t| !t.holds_texts()) {
        return None;
    }
    let folder = table.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let kind = kind_of(&folder.display().to_string()).ok()?;
    matches!(kind, Kind::Vision | Kind::Medical | Kind::Signals).then(|| folder.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str, overrides: &[&str]) -> Draft {
        let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_string()).collect();
        Draft::parse(text, "c.toml").unwrap().with(&overrides).unwrap()
    }

    #[test]
    fn stated_modalities() {
        let kind = |text: &str, overrides: &[&str]| draft(text, overrides).stated_kind();
        assert_eq!(kind("modality = \"text\"", &[]).unwrap(), Some(Kind::Text));
        assert_eq!(kind("modality = \"text\"", &["modality = speech"]).unwrap(), Some(Kind::Speech));
        assert_eq!(kind("[train]", &[]).unwrap(), None);
        assert!(kind("modality = \"smell\"", &[]).is_err());
        let sliced = "modality = \"medical\"\n[volumes]\nslices = \"axial\"";
        assert_eq!(kind(sliced, &[]).unwrap(), Some(Kind::Vision));
        assert_eq!(kind("", &["volumes.slices = axial"]).unwrap(), Some(Kind::Vision));
    }

    #[test]
    fn a_table_says_where_its_samples_lie() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            format!("data.labels = {}", toml::Value::String(dir.path().join(name).display().to_string()))
        };
        let images = write("images.csv", "path,label\na.png,x\n");
        let texts = write("texts.csv", "text,label\nsun,x\n");
        let place = |keys: &[&str]| draft("", keys).located().data_path().map(str::to_string);
        assert_eq!(place(&[&images]), Some(dir.path().display().to_string()));
        // A table of images given as the data is a table of labels, once there are images.
        let as_data = images.replace("data.labels", "data.path");
        assert!(place(&[&as_data]).unwrap().ends_with("images.csv"));
        std::fs::write(dir.path().join("a.png"), b"").unwrap();
        let located = draft("", &[&as_data]).located();
        assert_eq!(located.data_path(), Some(dir.path().to_str().unwrap()));
        assert!(located.layers.text("data.labels").unwrap().ends_with("images.csv"));
        // Columns of other names, where they are named.
        let odd = write("odd.csv", "where,what\na.png,x\n").replace("data.labels", "data.path");
        assert!(place(&[&odd]).unwrap().ends_with("odd.csv"));
        assert_eq!(place(&[&odd, "data.columns.path=where"]), Some(dir.path().display().to_string()));
        let texts_as_data = texts.replace("data.labels", "data.path");
        assert!(place(&[&texts_as_data]).unwrap().ends_with("texts.csv"));
        assert_eq!(place(&[&texts]), Some(dir.path().join("texts.csv").display().to_string()));
        assert_eq!(place(&[&images, "data.path = photos"]).as_deref(), Some("photos"));
        assert_eq!(place(&["data.labels = labels.csv"]).as_deref(), Some("."));
        assert_eq!(place(&[]), None);
    }

    #[test]
    fn what_is_asked_before_the_type_is_known() {
        let d = draft("[method]\nname = \"mae\"\n[task]\nrun = \"a\"", &["encoder.name = 'vit'"]);
        assert_eq!((d.method(), d.encoder(), d.data_path()), (Some("mae"), Some("vit"), None));
        assert_eq!(d.task_run(), Some(Path::new("a")));
        let d = draft("[method]\nname = \"mae\"", &["method.name = \"byol\"", "data.path = festvox-ru"]);
        assert_eq!((d.method(), d.data_path(), d.task_run()), (Some("byol"), Some("festvox-ru"), None));
        let args = ["method.name = moco".to_string()];
        let flags = [("method.name", Some("byol".to_string())), ("data.path", Some("1e3".to_string()))];
        let d = Draft::read(&args, &flags, None).unwrap();
        assert_eq!((d.method(), d.data_path(), d.has_file()), (Some("moco"), Some("1e3"), false));
        let two = ["a.toml".to_string(), "b.toml".to_string()];
        assert!(Draft::read(&two, &[], None).unwrap_err().to_string().contains("b.toml"));
    }
}
