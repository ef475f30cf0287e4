// Runs a helper program that was built beside the test, in a process of its own.
#pragma once

#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

namespace tidemark {

// Files that are part of the sources, test/fixtures/formats.
inline std::string fixture_directory() {
  return (std::filesystem::path(__FILE__).parent_path() / "../../test/fixtures/formats").string();
}

// True: it ended well. False: the failpoint killed it. Anything else fails the test.
inline bool run_tool(const std::string& name, const std::vector<std::string>& arguments,
                     const std::string& failpoint) {
  const std::string path =
      (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string();
  std::vector<char*> argv{const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  std::string setting = "TIDEMARK_FAILPOINT=" + failpoint;
  std::vector<char*> environment{setting.data(), nullptr};
  pid_t pid = 0;
  REQUIRE(::posix_spawn(&pid, path.c_str(), nullptr, nullptr, argv.data(), environment.data()) ==
          0);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  if (WIFSIGNALED(status)) {
    REQUIRE(WTERMSIG(status) == SIGKILL);
    return false;
  }
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 0);
  return true;
}

}  // namespace tidemark
