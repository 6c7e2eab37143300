//! Which bytes do the fuzz targets read their input as?

pub mod batches;
pub mod steps;
pub mod subjects;
