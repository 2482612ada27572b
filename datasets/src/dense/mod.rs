//! Targets at places of an image: boxes of objects (COCO JSON, YOLO texts, Pascal VOC XML) and masks (PNG
//! files beside the images), found by the usual names of folders or by a pattern.

mod annotated;
mod coco;
mod masked;
mod pattern;
mod voc;
mod xml;
mod yolo;

pub use annotated::open_objects;
pub use coco::is_coco;
pub use masked::open_masks;
pub use pattern::Pattern;
