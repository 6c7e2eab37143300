//! Which records follow from a request, a silence or a lost connection?
pub mod request;
