//! What tells the volumes of one series apart.

use super::tags::*;
use super::values::text;
use dicom_core::Tag;
use dicom_object::InMemDicomObject;

/// The attributes in the order in which they are tried; whether their values may be shown.
pub(super) const ATTRIBUTES: [(Tag, &str, bool); 10] = [
    (ACQUISITION_NUMBER, "AcquisitionNumber", true),
    (TEMPORAL_POSITION, "TemporalPositionIdentifier", true),
    (ECHO_NUMBERS, "EchoNumbers", true),
    (ECHO_TIME, "EchoTime", true),
    (DIFFUSION_B_VALUE, "DiffusionBValue", true),
    (TRIGGER_TIME, "TriggerTime", true),
    (STACK_ID, "StackID", false),
    (CONVOLUTION_KERNEL, "ConvolutionKernel", false),
    (IMAGE_TYPE, "ImageType", false),
    (ACQUISITION_TIME, "AcquisitionTime", false),
];
/// Where the type of image stands in [`ATTRIBUTES`].
const TYPE: usize = 8;

/// What may tell volumes of one series apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Phase([Option<String>; ATTRIBUTES.len()]);

impl Phase {
    pub(super) fn of(object: &InMemDicomObject) -> Phase {
        Phase(ATTRIBUTES.map(|(tag, ..)| text(object, tag)))
    }

    /// The value of an attribute.
    pub(super) fn value(&self, attribute: usize) -> Option<&String> {
        self.0.get(attribute)?.as_ref()
    }

    pub(super) fn is_localizer(&self) -> bool {
        self.0[TYPE].as_ref().is_some_and(|t| t.contains("LOCALIZER"))
    }
}

/// Attributes with those values that may be shown.
pub(super) fn named(attributes: &[usize], values: &[Option<String>]) -> String {
    let one = |(a, value): (&usize, &Option<String>)| match (ATTRIBUTES[*a], value) {
        ((_, name, true), Some(value)) if value.len() <= 16 && value.parse::<f64>().is_ok() => {
            format!("{name} {value}")
        }
        ((_, name, _), Some(_)) => name.to_string(),
        ((_, name, _), None) => format!("no {name}"),
    };
    attributes.iter().zip(values).map(one).collect::<Vec<_>>().join(", ")
}
