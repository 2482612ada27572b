//! A folder of images as a data set, without the help of `selfsup-datasets`.

use crate::augment::Augment;
use crate::data::{Collated, Content, Sample};
use selfsup_core::data::{Dataset, Loader, LoaderConfig};
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Endings of files that are taken for images.
const ENDINGS: [&str; 9] = ["jpg", "jpeg", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif"];

/// The images below a folder, in the order of their paths.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    files: Vec<PathBuf>,
}

/// Reads images of a folder and makes their views.
pub type ImageLoader = Loader<ImageFolder, Augment, Collated>;

impl ImageFolder {
    /// All files below `path` whose ending is that of an image, or `path` itself if it is a file. Hidden
    /// files and links to folders are left out. Nothing is decoded yet.
    ///
    /// # Errors
    /// If a folder cannot be read, or there is no image.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if meta.is_file() {
            return Ok(ImageFolder { files: vec![path.to_path_buf()] });
        }
        let (mut files, mut folders) = (Vec::new(), vec![path.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
                let path = entry.map_err(|e| Error::io(&folder, e))?.path();
                if path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b".")) {
                    continue;
                }
                let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
                // A link to a folder could lead in circles.
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if path.is_file() && ENDINGS.contains(&ending.as_str()) {
                    files.push(path);
                }
            }
        }
        if files.is_empty() {
            let problem =
                format!("no images in this folder, expected files that end in {}", ENDINGS.join(", "));
            return Err(Error::file(path, problem));
        }
        files.sort();
        Ok(ImageFolder { files })
    }

    /// The files: sample `i` is file `i`.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// A loader of `views` of the images: of a `&TrainConfig` for training, of [`LoaderConfig::in_order`] for
    /// embedding.
    ///
    /// # Errors
    /// If the configuration is impossible, or there are fewer images than a batch of a training needs.
    pub fn loader(&self, views: Augment, config: impl Into<LoaderConfig>) -> Result<ImageLoader> {
        Loader::new(Arc::new(self.clone()), Arc::new(views), Arc::new(Collated), config.into())
    }
}

impl Dataset for ImageFolder {
    type Item = Sample;

    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let missing =
            || Error::input("images", format!("no image {index}, expected one below {}", self.len()));
        let file = self.files.get(index).ok_or_else(missing)?;
        Ok(Sample { id: file.display().to_string(), content: Content::File(file.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::AugmentConfig;
    use crate::image::{Image, MAX_PIXELS, Pixels};

    #[test]
    fn images_are_found_below_folders_and_read_in_order() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let none = ImageFolder::open(dir.path()).unwrap_err().to_string();
        assert!(none.contains("no images") && none.contains("jpg"), "{none}");
        std::fs::create_dir(dir.path().join("a")).unwrap();
        for (name, value) in [("b.PNG", 10), ("a/x.png", 20), (".hidden.png", 30)] {
            let image = Image::new(4, 4, 1, Pixels::U8(vec![value; 16]))?;
            image.save(dir.path().join(name))?;
        }
        std::fs::write(dir.path().join("notes.txt"), "no image").unwrap();
        let images = ImageFolder::open(dir.path())?;
        let names: Vec<_> = images.files().iter().map(|f| f.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a/x.png"), Path::new("b.PNG")]);
        let view = AugmentConfig { size: 4, mean: [0.0; 3], std: [1.0; 3], ..Default::default() };
        let loader = images.loader(view.evaluation(1, MAX_PIXELS)?, LoaderConfig::in_order(2, 0))?;
        let batch = loader.epoch_from(0, 0)?.next().unwrap()?.batch;
        let first = batch.globals[0].flatten_from(1)?.get_on_dim(1, 0)?.to_vec1::<f32>()?;
        assert!(
            (first[0] - 20.0 / 255.0).abs() < 1e-6 && (first[1] - 10.0 / 255.0).abs() < 1e-6,
            "{first:?}"
        );
        assert_eq!(ImageFolder::open(&images.files()[1])?.len(), 1);
        assert!(ImageFolder::open(dir.path().join("absent")).is_err() && images.get(2).is_err());
        Ok(())
    }
}
