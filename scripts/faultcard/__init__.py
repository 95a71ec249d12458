"""The reliability scorecard: a module for each section, a function for each row, a process for each fault."""
