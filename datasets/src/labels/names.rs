//! What the columns of tables are called.

/// What a column of a table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Path,
    Label,
    Text,
    Mask,
    Group,
    Split,
}

pub(super) const ROLES: [Role; 6] =
    [Role::Path, Role::Label, Role::Text, Role::Mask, Role::Group, Role::Split];

impl Role {
    /// Its key in `data.columns`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Role::Path => "path",
            Role::Label => "label",
            Role::Text => "text",
            Role::Mask => "mask",
            Role::Group => "group",
            Role::Split => "split",
        }
    }

    /// Usual names without case, spaces, dashes and underscores. Those of the first list are taken before
    /// those of the second, and so on; for groups the first list is the coarsest.
    fn names(self) -> &'static [&'static [&'static str]] {
        match self {
            Role::Path => &[
                &[
                    "path",
                    "file",
                    "filename",
                    "filepath",
                    "image",
                    "imagepath",
                    "imagefile",
                    "imagename",
                    "imagefilename",
                    "imgpath",
                    "img",
                    "imgname",
                    "imageindex",
                    "audio",
                    "audiopath",
                    "audiofile",
                    "audiofilepath",
                    "wav",
                    "wavpath",
                    "volume",
                    "volumepath",
                    "scan",
                    "scanpath",
                ],
                &["imageid", "imgid", "fileid", "filenameid", "audioid", "volumeid", "pathid", "scanid"],
                &["id"],
            ],
            Role::Label => &[
                &[
                    "label",
                    "labels",
                    "class",
                    "category",
                    "target",
                    "dx",
                    "diagnosis",
                    "classname",
                    "labelname",
                ],
                &["labelid", "classid", "categoryid", "targetid", "classlabel"],
            ],
            Role::Text => &[&["text", "transcript", "transcription", "sentence"]],
            Role::Mask => &[&["mask", "maskpath", "maskfile", "segmentation", "segmentationpath"]],
            Role::Group => &[
                &["group", "groupid"],
                &[
                    "patient",
                    "patientid",
                    "patientname",
                    "patientnumber",
                    "subject",
                    "subjectid",
                    "participant",
                    "participantid",
                    "speaker",
                    "speakerid",
                    "client",
                    "clientid",
                    "person",
                    "personid",
                    "donor",
                    "donorid",
                    "animal",
                    "animalid",
                ],
                &["case", "caseid", "casenumber"],
                &["lesion", "lesionid"],
                &["study", "studyid", "studyuid", "studyinstanceuid", "exam", "examid"],
                &["series", "seriesid", "seriesuid", "seriesinstanceuid", "session", "sessionid"],
                &["source", "sourceid"],
            ],
            Role::Split => &[&["split", "subset", "partition"]],
        }
    }

    /// The list of [`Role::names`] that has `name`.
    pub(super) fn tier(self, name: &str) -> Option<usize> {
        self.names().iter().position(|names| names.contains(&name))
    }

    /// The usual names, for messages.
    pub(super) fn synonyms(self) -> String {
        let shown = match self {
            Role::Path => "path, file, file_name, filepath, image, image_path, img, image_id, id",
            Role::Label => "label, labels, class, category, target, diagnosis, dx",
            Role::Text => "text, transcript, transcription, sentence",
            Role::Mask => "mask, segmentation",
            Role::Group => "group, patient_id, subject_id, case_id, lesion_id, study_id",
            Role::Split => "split, subset, partition",
        };
        shown.to_string()
    }
}

/// Names of what is no group by itself but may be one.
pub(super) const SITES: [&str; 18] = [
    "site",
    "siteid",
    "scanner",
    "scannerid",
    "hospital",
    "hospitalid",
    "center",
    "centre",
    "centerid",
    "centreid",
    "institution",
    "institutionname",
    "manufacturer",
    "device",
    "deviceid",
    "machine",
    "vendor",
    "field",
];

/// A name without case, spaces, dashes, underscores and points.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '-' | '_' | '.' | '\t')).collect::<String>().to_lowercase()
}

/// The column that holds groups by its name: the coarsest, and of one level the first.
#[cfg(feature = "parquet")]
pub(crate) fn group_column(head: &[String]) -> Option<usize> {
    let tiers = head.iter().enumerate().filter_map(|(i, h)| Some((Role::Group.tier(&plain(h))?, i)));
    tiers.min().map(|(_, i)| i)
}
