/* Sizes, offsets and values of the Windows headers as a C compiler for Windows sees them.
 *
 * Compiled to assembler and never run: every probe of probes.inc, which the test makes from what
 * minidumper's win32 module declares, becomes a line "->name offset size". The definitions are those
 * of mingw-w64; what it lacks is typed from the pages that the module links.
 */
#define _WIN32_WINNT 0x0A00
#include <stddef.h>
#include <windows.h>
#include <winternl.h>
#include <tlhelp32.h>
#include <sddl.h>

typedef struct { NTSTATUS ExitStatus; PVOID TebBaseAddress; HANDLE UniqueProcess, UniqueThread;
    KAFFINITY AffinityMask; LONG Priority, BasePriority; } THREAD_BASIC_INFORMATION;

#define EMIT(name, a, b) __asm__ volatile("\n->" name " %c0 %c1" ::"i"((long long)(a)), "i"((long long)(b)))
#define SIZE(type) EMIT(#type, 0, sizeof(type));
#define FIELD(type, name, field) \
    EMIT(#type "." #name, offsetof(type, field), sizeof(((type *)0)->field));
#define VALUE(name) EMIT(#name, (int)(name), 0);

void probes(void) {
#include "probes.inc"
}
