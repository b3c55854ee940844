//! Pure mathematics: nothing here reads a clock, a file or an environment variable.
