//! Something to say at every place of an image: semantic segmentation and object detection.
//!
//! Both stand on the maps of an encoder ([`Stages`]). [`Segment`] has a linear head on the last map, or a
//! small decoder over all; [`Detect`] has FCOS' head over three levels of a feature pyramid. [`Placed`] makes
//! views and says where their pixels lie in the image, so that masks and boxes follow.

mod assign;
mod detect;
mod draw;
mod head;
mod layers;
mod mask;
mod nms;
mod place;
mod pyramid;
mod segment;
mod stages;

pub use assign::{Level, Target, Truth, assign};
pub use detect::{BoxBatch, Detect, DetectConfig};
pub use draw::{colour, draw_boxes, overlay};
pub use mask::Mask;
pub use nms::{Found, suppress};
pub use place::{Place, Placed, PlacedView, classes_of};
pub use pyramid::Pyramid;
pub use segment::{HeadKind, MaskBatch, Segment, SegmentConfig};
pub use stages::Stages;
