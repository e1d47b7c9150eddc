//! What clients asked and were told, as data, and the file formats it is read from.
