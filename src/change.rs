//! Which URIs an exchange touched.
