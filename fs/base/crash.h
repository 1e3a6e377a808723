// What a process still does when it is about to end by a signal of its own making.
#pragma once

namespace shardfs {

/// From now on `last_act` is called, once, in the thread that fails, where this process gets
/// SIGSEGV, SIGBUS, SIGABRT (as for want of memory), SIGILL or SIGFPE; then it ends by that signal,
/// or by SIGALRM where that takes more than two seconds. `last_act` may call what is
/// async-signal-safe, and read what was there before. SIGKILL leaves no time for it, nor does a
/// stack that has run over. A later call takes the place of an earlier one.
void on_crash(void (*last_act)());

}  // namespace shardfs
