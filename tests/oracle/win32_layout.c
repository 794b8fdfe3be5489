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

typedef enum { PSS_CAPTURE_VA_CLONE = 0x00000001, PSS_CAPTURE_HANDLES = 0x00000004,
    PSS_CAPTURE_HANDLE_NAME_INFORMATION = 0x00000008, PSS_CAPTURE_HANDLE_BASIC_INFORMATION = 0x00000010,
    PSS_CAPTURE_HANDLE_TYPE_SPECIFIC_INFORMATION = 0x00000020, PSS_CAPTURE_THREADS = 0x00000080,
    PSS_CAPTURE_THREAD_CONTEXT = 0x00000100, PSS_CAPTURE_VA_SPACE = 0x00000800,
    PSS_CAPTURE_VA_SPACE_SECTION_INFORMATION = 0x00001000, PSS_CREATE_BREAKAWAY_OPTIONAL = 0x04000000,
    PSS_CREATE_BREAKAWAY = 0x08000000 } PSS_CAPTURE_FLAGS;
typedef struct { HANDLE VaCloneHandle; } PSS_VA_CLONE_INFORMATION;

#define EMIT(name, a, b) __asm__ volatile("\n->" name " %c0 %c1" ::"i"((long long)(a)), "i"((long long)(b)))
#define SIZE(type) EMIT(#type, 0, sizeof(type));
#define FIELD(type, name, field) \
    EMIT(#type "." #name, offsetof(type, field), sizeof(((type *)0)->field));
#define VALUE(name) EMIT(#name, (int)(name), 0);

void probes(void) {
#include "probes.inc"
}
