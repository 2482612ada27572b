//! DICOM objects that are no image, by their class (PS3.4 B.5).

/// What an object of this class is, if it is no image.
pub(super) fn kind_of(class: &str) -> Option<&'static str> {
    const CLASSES: [(&str, &str); 13] = [
        ("1.2.840.10008.5.1.4.1.1.88.", "structured report"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RT structure set"),
        ("1.2.840.10008.5.1.4.1.1.481.5", "RT plan"),
        ("1.2.840.10008.5.1.4.1.1.481.8", "RT plan"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RT dose"),
        ("1.2.840.10008.5.1.4.1.1.11.", "presentation state"),
        ("1.2.840.10008.5.1.4.1.1.104.", "document"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "segmentation object"),
        ("1.2.840.10008.5.1.4.1.1.66", "registration or raw datum"),
        ("1.2.840.10008.5.1.4.1.1.67", "map of values"),
        ("1.2.840.10008.5.1.4.1.1.9.", "waveform"),
        ("1.2.840.10008.5.1.4.1.1.481.", "RT record"),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
    ];
    // An image of radiotherapy has pixels like any other.
    if class == "1.2.840.10008.5.1.4.1.1.481.1" {
        return None;
    }
    CLASSES.iter().find(|(start, _)| class.starts_with(start)).map(|(_, what)| *what)
}

/// Whether the class is that of screenshots and scans of paper.
pub(super) fn is_secondary_capture(class: &str) -> bool {
    class == "1.2.840.10008.5.1.4.1.1.7" || class.starts_with("1.2.840.10008.5.1.4.1.1.7.")
}
