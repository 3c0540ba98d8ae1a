// libnvrtc.so: "compiles" CUDA C with the machine's C++ compiler.
//
// The source goes through the preprocessor by itself; in what comes out this looks for `__global__` functions and for
// `extern __shared__` arrays. Then device.h, the source, with those arrays made pointers, and a table of the kernels are
// compiled to a shared library beside this one, named by a hash of all that, so that the same source is compiled once. A
// "cubin" is that library behind a line of text; "PTX" is a text that names its path.
//
// It is laxer than NVRTC: host-only C++ passes if it needs no header, and nothing limits registers or static shared memory.
// Templates of kernels (name expressions), inline PTX and NVIDIA's headers (cuda_fp16.h, mma.h, cooperative groups) are not here.
#include "abi.h"
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <link.h>
#include <set>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

enum Result : int {
    SUCCESS = 0,
    INVALID_INPUT = 3,
    INVALID_PROGRAM = 4,
    INVALID_OPTION = 5,
    COMPILATION = 6,
    INTERNAL_ERROR = 11,
};

struct Program {
    std::string source, name, log;
    std::vector<std::string> header_names, headers;
    std::string ptx, cubin;
};

std::string own_folder() {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&own_folder), &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

bool write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    return file.good();
}

std::string quoted(const std::string& text) {
    std::string out = "'";
    for (char c : text) c == '\'' ? out += "'\\''" : out += c;
    return out + "'";
}

unsigned long long hash_of(const std::string& text) {
    unsigned long long hash = 14695981039346656037ull;  // FNV-1a
    for (unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
    return hash;
}

std::string compiler() {
    const char* name = std::getenv("CXX");
    return name && *name ? name : "c++";
}

// ---- Options ----

struct Options {
    std::string defines;   // as source lines
    std::string includes;  // as arguments of the compiler
    std::string standard = "-std=c++17";
    bool fuse = true;      // a * b + c
    bool real = false;     // an sm_ architecture: there is machine code
    int architecture = 75;
    bool device_by_default = false;
};

bool starts(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

void define(Options& options, const std::string& text) {
    size_t equals = text.find('=');
    options.defines += "#define " + text.substr(0, equals) + " " + (equals == std::string::npos ? "1" : text.substr(equals + 1)) + "\n";
}

// The option's value, if `text` is that option as --long=value, --long value, -short=value or -short value.
bool valued(const std::vector<std::string>& all, size_t& i, const char* option, std::string& value) {
    const std::string& text = all[i];
    if (text == option && i + 1 < all.size()) {
        value = all[++i];
        return true;
    }
    if (!starts(text, (std::string(option) + "=").c_str())) return false;
    value = text.substr(std::strlen(option) + 1);
    return true;
}

bool parse(const std::vector<std::string>& all, Options& options, std::string& log) {
    for (size_t i = 0; i < all.size(); i++) {
        const std::string& text = all[i];
        std::string value;
        if (valued(all, i, "--define-macro", value)) define(options, value);
        else if (starts(text, "-D")) define(options, text.size() > 2 ? text.substr(2) : i + 1 < all.size() ? all[++i] : "");
        else if (valued(all, i, "--include-path", value)) options.includes += " -I" + quoted(value);
        else if (starts(text, "-I")) options.includes += " -I" + quoted(text.size() > 2 ? text.substr(2) : i + 1 < all.size() ? all[++i] : "");
        else if (valued(all, i, "--gpu-architecture", value) || valued(all, i, "-arch", value)) {
            options.real = starts(value, "sm_");
            if (!options.real && !starts(value, "compute_")) {
                log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
                return false;
            }
            options.architecture = std::atoi(value.c_str() + value.find('_') + 1);
        } else if (valued(all, i, "--std", value) || valued(all, i, "-std", value)) options.standard = "-std=" + value;
        else if (valued(all, i, "--fmad", value) || valued(all, i, "-fmad", value)) options.fuse = value == "true";
        else if (text == "--device-as-default-execution-space" || text == "-default-device" || text == "--default-device") options.device_by_default = true;
        else {
            static const char* const ignored[] = {
                "--use_fast_math", "-use_fast_math", "--ftz", "-ftz", "--prec-div", "-prec-div", "--prec-sqrt", "-prec-sqrt",
                "--extra-device-vectorization", "--device-debug", "-G", "--generate-line-info", "-lineinfo", "--maxrregcount",
                "-maxrregcount", "--restrict", "-restrict", "--disable-warnings", "-w", "--ptxas-options", "-Xptxas",
                "--dopt", "-dopt", "--split-compile",
                "--device-int128", "-device-int128", "--diag-suppress", "-diag-suppress", "--relocatable-device-code", "-rdc",
                "--minimal", "-minimal"};
            bool known = false;
            for (const char* option : ignored)
                if (text == option || starts(text, (std::string(option) + "=").c_str())) known = true;
            if (!known) {
                log = "nvrtc: error: unrecognized option " + text + " found\n";
                return false;
            }
        }
    }
    return true;
}

// ---- The source ----

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// Where the token after `at` begins; skips white space, line markers and literals whole.
struct Scanner {
    const std::string& text;
    size_t at = 0;

    // The next token: a word, a literal or one character; empty at the end.
    std::string next() {
        for (;;) {
            while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) at++;
            if (at < text.size() && text[at] == '#' && (at == 0 || text[at - 1] == '\n')) {
                while (at < text.size() && text[at] != '\n') at++;
                continue;
            }
            break;
        }
        if (at >= text.size()) return "";
        size_t begin = at;
        if (is_word(text[at])) {
            while (at < text.size() && is_word(text[at])) at++;
        } else if (text[at] == '"' || text[at] == '\'') {
            char quote = text[at++];
            while (at < text.size() && text[at] != quote) at += text[at] == '\\' ? 2 : 1;
            at++;
        } else {
            at++;
        }
        return text.substr(begin, at - begin);
    }
};

struct Kernel {
    std::string name, bound = "0";
};

// "file:line" of a place in a preprocessed text, from its line markers.
std::string line_of(const std::string& text, size_t place) {
    std::string file = "?";
    long line = 0;
    for (size_t begin = 0; begin < place;) {
        size_t end = std::min(text.find('\n', begin), text.size());
        if (text[begin] == '#') {
            char name[512] = "";
            if (std::sscanf(text.c_str() + begin, "# %ld \"%511[^\"]\"", &line, name) == 2) file = name, line--;
        } else if (end >= place) {
            break;
        }
        line++;
        begin = end + 1;
    }
    return file + ":" + std::to_string(line);
}

// Reads a preprocessed source from front to back: collects its kernels, makes its `extern __shared__ T name[];` pointers, and
// minds what a C++ compiler would not: functions that nobody marked for the device.
class Translation {
public:
    explicit Translation(std::string& text, bool device_by_default)
        : text(text), scanner{text}, device_by_default(device_by_default) {}

    std::vector<Kernel> kernels;
    std::string error;

    bool run() {
        for (std::string token; error.empty() && !(token = scanner.next()).empty();) {
            if (token == "__shared__" && has("extern")) dynamic_shared();
            else if (token == "__global__") declaration.push_back(token), kernel();
            else if (token == "{") open();
            else if (token == "}") close();
            else if (token == ";") declaration.clear();
            else {
                if (declaration.empty()) begin = scanner.at - token.size();
                if (token == "(" && name.empty() && !declaration.empty()) name = declaration.back();
                declaration.push_back(token);
            }
            if (declaration.empty()) name.clear();
        }
        out += text.substr(copied);
        text = out;
        return error.empty();
    }

private:
    enum class Scope { space, record, body };

    std::string& text;
    Scanner scanner;
    bool device_by_default;
    std::vector<Scope> scopes;
    std::vector<std::string> declaration;  // tokens since the last ; { or }
    std::string name;                      // what stood before its first (
    size_t begin = 0;                      // where it begins
    std::string out;
    size_t copied = 0;  // of text, to out
    std::set<std::string> seen;

    bool has(const char* word) const {
        for (const std::string& token : declaration)
            if (token == word) return true;
        return false;
    }

    void open() {
        Scope outer = scopes.empty() ? Scope::space : scopes.back(), inner = Scope::body;
        if (outer != Scope::body) {
            bool linkage = declaration.size() == 2 && declaration[0] == "extern";
            bool function = has("(") && !has("=");
            if (has("namespace") || linkage) inner = Scope::space;
            else if (!function && (has("struct") || has("class") || has("union"))) inner = Scope::record;
            else if (function && !device_by_default && !has("__device__") && !has("__global__") && !has("__host__"))
                error = line_of(text, begin) + ": error: function " + name + " is marked neither __device__ nor __global__\n";
        }
        scopes.push_back(inner);
        declaration.clear();
    }

    void close() {
        if (!scopes.empty()) scopes.pop_back();
        declaration.clear();
    }

    // Reads what stands in parentheses, up to the closing one; the opening one comes next or has just been read.
    std::string parenthesis() {
        std::string inside, token;
        for (int depth = 0; !(token = scanner.next()).empty();) {
            if (token == "(" && depth++ == 0) continue;
            if (token == ")" && --depth == 0) break;
            inside += token + " ";
        }
        return inside;
    }

    // After __global__: [__launch_bounds__(threads, ..)] void name(
    void kernel() {
        Kernel kernel;
        std::string token, previous;
        while (!(token = scanner.next()).empty() && token != "(") {
            declaration.push_back(token);
            if (token == "__launch_bounds__") kernel.bound = first_of(parenthesis());
            else previous = token;
        }
        kernel.name = name = previous;
        declaration.push_back("(");
        if (has("template")) return;
        if (seen.insert(kernel.name).second) kernels.push_back(kernel);
        else if (kernel.bound != "0")
            for (Kernel& known : kernels)
                if (known.name == kernel.name) known.bound = kernel.bound;
    }

    static std::string first_of(const std::string& list) {
        int depth = 0;
        for (size_t i = 0; i < list.size(); i++) {
            depth += list[i] == '(' ? 1 : list[i] == ')' ? -1 : 0;
            if (list[i] == ',' && depth == 0) return list.substr(0, i);
        }
        return list;
    }

    // After extern __shared__: [__align__(n)] TYPE name[];
    void dynamic_shared() {
        size_t type_begin = scanner.at;
        std::string token, variable;
        while (!(token = scanner.next()).empty() && token != "[" && token != ";") {
            if (token == "__align__") {
                parenthesis();
                type_begin = scanner.at;
            }
            variable = token;
        }
        size_t variable_begin = text.rfind(variable, scanner.at);
        std::string type = text.substr(type_begin, variable_begin - type_begin);
        while (token != ";" && !(token = scanner.next()).empty()) {}
        if (scopes.empty() || scopes.back() != Scope::body) {
            error = line_of(text, begin) + ": error: the emulator wants extern __shared__ " + variable + "[] inside the function that uses it\n";
            return;
        }
        out += text.substr(copied, begin - copied) + type + "* " + variable + " = static_cast<" + type + "*>(emulator_dynamic_shared());";
        copied = scanner.at;
        declaration.clear();
    }
};

// ---- Compiling ----

int run(const std::string& command) {
    int status = std::system(command.c_str());
    return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// An own folder for the files of one compilation, gone at the end.
struct Workshop {
    std::string path;
    Workshop() {
        std::string pattern = own_folder() + "/kernels/work-XXXXXX";
        if (mkdtemp(pattern.data())) path = pattern;
    }
    ~Workshop() {
        if (!path.empty() && run("rm -rf " + quoted(path)) != 0) {}
    }
};

// Whether a library's thread storage, which is what __shared__ becomes, has a content of its own.
bool initialises_shared(const std::string& path) {
    std::string bytes = read_file(path);
    ElfW(Ehdr) header;
    if (bytes.size() < sizeof header) return false;
    std::memcpy(&header, bytes.data(), sizeof header);
    for (int i = 0; i < header.e_phnum; i++) {
        ElfW(Phdr) segment;
        std::memcpy(&segment, bytes.data() + header.e_phoff + static_cast<size_t>(i) * header.e_phentsize, sizeof segment);
        if (segment.p_type == PT_TLS) return segment.p_filesz > 0;
    }
    return false;
}

int compile(Program& program, const std::vector<std::string>& arguments) {
    Options options;
    if (!parse(arguments, options, program.log)) return INVALID_OPTION;
    std::string folder = own_folder(), kernels_folder = folder + "/kernels";
    mkdir(kernels_folder.c_str(), 0755);
    Workshop workshop;
    if (workshop.path.empty()) {
        program.log = "cannot write to " + kernels_folder + "\n";
        return INTERNAL_ERROR;
    }
    std::string base = workshop.path + "/source", log_path = workshop.path + "/log";
    for (size_t i = 0; i < program.headers.size(); i++) write_file(workshop.path + "/" + program.header_names[i], program.headers[i]);

    std::string source = "#define __CUDACC__ 1\n#define __CUDACC_RTC__ 1\n#define __NVCC__ 1\n#define CUDA_EMULATOR 1\n#define __CUDA_ARCH__ " +
                         std::to_string(options.architecture * 10) + "\n" + options.defines + "#line 1 \"" + program.name + "\"\n" + program.source + "\n";
    write_file(base + ".cpp", source);
    if (run(compiler() + " -E -nostdinc " + options.standard + " -I" + quoted(workshop.path) + options.includes + " " + quoted(base + ".cpp") +
            " -o " + quoted(base + ".ii") + " 2> " + quoted(log_path)) != 0) {
        program.log = read_file(log_path);
        return COMPILATION;
    }
    std::string text = read_file(base + ".ii");
    Translation translation(text, options.device_by_default);
    if (!translation.run()) {
        program.log = translation.error;
        return COMPILATION;
    }

    std::string full = "#include \"device.h\"\n" + text + "\nextern \"C\" EMULATOR_EXPORT const EmulatorKernel emulator_kernels[] = {\n";
    for (const Kernel& kernel : translation.kernels) full += "    EMULATOR_KERNEL(" + kernel.name + ", (" + kernel.bound + ")),\n";
    full += "    {nullptr, nullptr, nullptr, 0, 0}};\n";
    // A kernel may have the name of a function of the C library: -Bsymbolic makes it the kernel that is launched.
    // Leaving an array of known extent, misaligned addresses and shifts by 32 or more trap; see on_signal in driver.cpp.
    std::string flags = options.standard + " -O2 -march=native -fPIC -shared -Wl,-Bsymbolic -fvisibility=hidden -fno-gnu-unique -fno-math-errno -fno-trapping-math "
                        "-fno-strict-aliasing -fsanitize=bounds,alignment,shift-exponent -fsanitize-undefined-trap-on-error -Werror=vla -Wno-attributes -Wno-unknown-pragmas -ffp-contract=" +
                        (options.fuse ? "fast" : "off");
    unsigned long long hash = hash_of(compiler() + flags + full);
    char name[32];
    std::snprintf(name, sizeof name, "/%016llx.so", hash);
    std::string library = kernels_folder + name;
    struct stat status;
    if (stat(library.c_str(), &status) != 0) {
        write_file(base + ".cc", full);
        if (run(compiler() + " " + flags + " -I" + quoted(folder) + " " + quoted(base + ".cc") + " -o " + quoted(base + ".so") + " 2> " + quoted(log_path)) != 0) {
            program.log = read_file(log_path);
            return COMPILATION;
        }
        program.log = read_file(log_path);
        if (initialises_shared(base + ".so")) {
            program.log += "error: an initializer is not allowed for a __shared__ variable\n";
            return COMPILATION;
        }
        if (rename((base + ".so").c_str(), library.c_str()) != 0) return INTERNAL_ERROR;
    }
    program.ptx = "// CUDA emulator module\n// " + library + "\n";
    if (options.real) {
        std::string bytes = read_file(library);
        char line[96];
        std::snprintf(line, sizeof line, "CUDA emulator binary\n%u %llx %zu\n", EMULATOR_ABI, hash, bytes.size());
        program.cubin = line + bytes;
    }
    return SUCCESS;
}

}  // namespace

// ---- The interface ----

#define API extern "C" __attribute__((visibility("default")))

API const char* nvrtcGetErrorString(int result) {
    switch (result) {
        case SUCCESS: return "NVRTC_SUCCESS";
        case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
        case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
        case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
        case COMPILATION: return "NVRTC_ERROR_COMPILATION";
        case INTERNAL_ERROR: return "NVRTC_ERROR_INTERNAL_ERROR";
        default: return "NVRTC_ERROR unknown";
    }
}

API int nvrtcVersion(int* major, int* minor) {
    *major = 99;
    *minor = 0;
    return SUCCESS;
}

API int nvrtcGetNumSupportedArchs(int* count) { return *count = 3, SUCCESS; }
API int nvrtcGetSupportedArchs(int* architectures) {
    int known[] = {80, 90, 100};
    std::memcpy(architectures, known, sizeof known);
    return SUCCESS;
}

API int nvrtcCreateProgram(Program** program, const char* source, const char* name, int headers, const char* const* texts,
                           const char* const* names) {
    if (!program || !source) return INVALID_INPUT;
    auto* made = new Program;
    made->source = source;
    made->name = name && *name ? name : "default_program";
    for (int i = 0; i < headers; i++) {
        made->headers.push_back(texts[i]);
        made->header_names.push_back(names[i]);
    }
    *program = made;
    return SUCCESS;
}

API int nvrtcDestroyProgram(Program** program) {
    if (!program || !*program) return INVALID_PROGRAM;
    delete *program;
    *program = nullptr;
    return SUCCESS;
}

API int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    if (!program) return INVALID_PROGRAM;
    program->log.clear();
    return compile(*program, std::vector<std::string>(options, options + count));
}

static int give(const std::string* text, char* place) {
    if (!text) return INVALID_PROGRAM;
    std::memcpy(place, text->data(), text->size());
    return SUCCESS;
}

API int nvrtcGetProgramLogSize(Program* program, size_t* size) { return *size = program->log.size() + 1, SUCCESS; }
API int nvrtcGetProgramLog(Program* program, char* log) { return std::strcpy(log, program->log.c_str()), SUCCESS; }
API int nvrtcGetPTXSize(Program* program, size_t* size) { return *size = program->ptx.size() + 1, SUCCESS; }
API int nvrtcGetPTX(Program* program, char* ptx) { return std::strcpy(ptx, program->ptx.c_str()), SUCCESS; }
API int nvrtcGetCUBINSize(Program* program, size_t* size) { return *size = program->cubin.size(), SUCCESS; }
API int nvrtcGetCUBIN(Program* program, char* cubin) { return give(program->cubin.empty() ? nullptr : &program->cubin, cubin); }
