//! Every refusal over HTTP and its response (RFC 9457 problem details).
