//! The elements that are read. None of them tells of a patient; those that serve to tell series and phases
//! apart are compared and not shown.

use dicom_core::{Tag, VR};

macro_rules! tags {
    ($($(#[$doc:meta])* $name:ident = ($group:literal, $element:literal) $vr:ident;)*) => {
        $($(#[$doc])* pub(super) const $name: Tag = Tag($group, $element);)*

        /// The kind of value of an element that is read.
        pub(super) fn wanted(tag: Tag) -> Option<VR> {
            match tag {
                $($name => Some(VR::$vr),)*
                _ => None,
            }
        }
    };
}

tags! {
    IMAGE_TYPE = (0x0008, 0x0008) CS;
    SOP_CLASS = (0x0008, 0x0016) UI;
    ACQUISITION_TIME = (0x0008, 0x0032) TM;
    MODALITY = (0x0008, 0x0060) CS;
    SLICE_THICKNESS = (0x0018, 0x0050) DS;
    ECHO_TIME = (0x0018, 0x0081) DS;
    ECHO_NUMBERS = (0x0018, 0x0086) IS;
    SPACING_BETWEEN_SLICES = (0x0018, 0x0088) DS;
    TRIGGER_TIME = (0x0018, 0x1060) DS;
    IMAGER_PIXEL_SPACING = (0x0018, 0x1164) DS;
    CONVOLUTION_KERNEL = (0x0018, 0x1210) SH;
    DIFFUSION_B_VALUE = (0x0018, 0x9087) FD;
    SERIES_INSTANCE_UID = (0x0020, 0x000E) UI;
    ACQUISITION_NUMBER = (0x0020, 0x0012) IS;
    IMAGE_POSITION = (0x0020, 0x0032) DS;
    IMAGE_ORIENTATION = (0x0020, 0x0037) DS;
    TEMPORAL_POSITION = (0x0020, 0x0100) IS;
    STACK_ID = (0x0020, 0x9056) SH;
    PLANE_POSITION_SEQUENCE = (0x0020, 0x9113) SQ;
    PLANE_ORIENTATION_SEQUENCE = (0x0020, 0x9116) SQ;
    SAMPLES_PER_PIXEL = (0x0028, 0x0002) US;
    PHOTOMETRIC = (0x0028, 0x0004) CS;
    NUMBER_OF_FRAMES = (0x0028, 0x0008) IS;
    ROWS = (0x0028, 0x0010) US;
    COLUMNS = (0x0028, 0x0011) US;
    PIXEL_SPACING = (0x0028, 0x0030) DS;
    BITS_ALLOCATED = (0x0028, 0x0100) US;
    BITS_STORED = (0x0028, 0x0101) US;
    HIGH_BIT = (0x0028, 0x0102) US;
    PIXEL_REPRESENTATION = (0x0028, 0x0103) US;
    PIXEL_PADDING_VALUE = (0x0028, 0x0120) US;
    PIXEL_PADDING_LIMIT = (0x0028, 0x0121) US;
    WINDOW_CENTER = (0x0028, 0x1050) DS;
    WINDOW_WIDTH = (0x0028, 0x1051) DS;
    RESCALE_INTERCEPT = (0x0028, 0x1052) DS;
    RESCALE_SLOPE = (0x0028, 0x1053) DS;
    RESCALE_TYPE = (0x0028, 0x1054) LO;
    MODALITY_LUT_SEQUENCE = (0x0028, 0x3000) SQ;
    PIXEL_MEASURES_SEQUENCE = (0x0028, 0x9110) SQ;
    VOI_LUT_SEQUENCE = (0x0028, 0x9132) SQ;
    PIXEL_VALUE_SEQUENCE = (0x0028, 0x9145) SQ;
    SHARED_GROUPS = (0x5200, 0x9229) SQ;
    FRAME_GROUPS = (0x5200, 0x9230) SQ;
}

/// The pixels themselves: read where they are wanted, frame by frame.
pub(super) const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
