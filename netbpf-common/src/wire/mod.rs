//! Header formats: alignment-1 structs with the field names of their RFCs. They judge nothing, and know no map and no
//! context.
