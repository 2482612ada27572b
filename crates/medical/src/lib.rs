//! Medical images (DICOM, NIfTI, NRRD), 3-D encoders and recipes.
