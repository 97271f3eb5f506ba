//! netbpf
