//! A live runtime over HTTP and MCP, with a page to look at it.

pub mod mcp;
