//! Sentences through the front door: a real Pogo on a free port, a scripted upstream behind it and
//! clients that write every byte themselves.

mod harness;

mod forward;
