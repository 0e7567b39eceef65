//! What a run's data is turned into. The JSON file comes first; everything else is made from it.

pub mod compare;
pub mod formats;
pub mod hgrm;
pub mod html;
pub mod json;
pub mod live;
pub mod summary;
pub mod thresholds;
