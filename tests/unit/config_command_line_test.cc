// Flags, and the tables and documentation that list them.

#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "config_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/keys.h"

namespace dirty {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string ParseError(const std::vector<std::string>& args) {
  return std::string(ParseCommandLine(args).status().message());
}

TEST(CommandLine, KeepsWhatWasAskedFor) {
  auto parsed =
      ParseCommandLine({"--config=x.yaml", "a:B", "--check", "--queue-size", "5", "--dirty-workers=3", "c:D"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->action, CommandLine::Action::kCheck);
  EXPECT_EQ(parsed->config_file, "x.yaml");
  EXPECT_THAT(parsed->apps, ElementsAre("a:B", "c:D"));
  ASSERT_EQ(parsed->flags.size(), 2u);
  EXPECT_EQ(parsed->flags[0].key, "queue_size");
  EXPECT_EQ(parsed->flags[0].value, "5");
  EXPECT_EQ(parsed->flags[1].spelled, "--dirty-workers");
  EXPECT_EQ(parsed->flags[1].key, "workers");
}

TEST(CommandLine, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(ParseError({"--worker=3"}), "unknown flag --worker; did you mean --workers?");
  EXPECT_EQ(ParseError({"--dirty-app-path=3"}), "unknown flag --dirty-app-path; see --help");
  EXPECT_EQ(ParseError({"-workers=3"}), "unknown flag -workers; did you mean --workers?");
  EXPECT_EQ(ParseError({"--chekc", "--zzzzzz"}),
            "unknown flag --chekc; did you mean --check?\nunknown flag --zzzzzz; see --help");
  EXPECT_EQ(ParseError({"--check=yes"}), "--check takes no value");
  EXPECT_EQ(ParseError({"--timeout"}), "--timeout needs a value");
  EXPECT_EQ(ParseError({"--timeout", "--check"}), "--timeout needs a value");
  EXPECT_EQ(ParseError({"--config="}), "--config needs a value");
}

TEST(CommandLine, HelpsWhoeverAsks) {
  EXPECT_EQ(ParseCommandLine({"--bogus", "--help"})->action, CommandLine::Action::kHelp);
  EXPECT_EQ(ParseCommandLine({"--version", "--check"})->action, CommandLine::Action::kVersion);
}

TEST(CommandLine, TakesWhatFollowsTwoDashesAsApps) {
  EXPECT_THAT(ParseCommandLine({"--", "--check"})->apps, ElementsAre("--check"));
}

TEST(Flags, WinOverTheFile) {
  TestWorld world = File(
      "workers: 2\ntimeout: 10s\nrestart: {max_backoff: 5s, give_up_after: 7}\nenv: {A: 1, B: 2}\n"
      "pythonpath: [a, b]\nallow_uids: [1]\napps: [a:B]\n");
  world.args = {"--dirty-timeout",
                "20s",
                "--restart-max-backoff=6s",
                "--env=B=3=4",
                "--env",
                "C=",
                "--pythonpath=x,y",
                "--pythonpath=z",
                "--allow_uids=7,8",
                "--dirty-app=c:D:2",
                "e:F"};
  Settings settings = world.MustLoad();
  const PoolSettings& pool = settings.pools.at(0);
  EXPECT_EQ(pool.workers, 2u);
  EXPECT_EQ(pool.apps.at(0).limits.timeout, absl::Seconds(20));
  EXPECT_EQ(settings.restart.max_backoff, absl::Seconds(6));
  EXPECT_EQ(settings.restart.give_up_after, 7u);
  EXPECT_EQ(pool.env, (std::map<std::string, std::string>{{"A", "1"}, {"B", "3=4"}, {"C", ""}}));
  EXPECT_THAT(pool.pythonpath, ElementsAre("/srv/x", "/srv/y", "/srv/z"));
  EXPECT_THAT(settings.allow_uids, ElementsAre(7u, 8u));
  ASSERT_EQ(pool.apps.size(), 3u);
  EXPECT_EQ(pool.apps[1].name, "c:D");
  EXPECT_EQ(pool.apps[1].workers, 2u);
  EXPECT_EQ(pool.apps[2].name, "e:F");
}

TEST(Flags, OfTheSameKeyTheLastWins) {
  EXPECT_EQ(Args({"a:B", "--workers=2", "--dirty-workers=3"}).MustLoad().pools.at(0).workers, 3u);
}

TEST(Flags, TakeGunicornsSpellings) {
  Settings settings = Args({"--dirty-app=a:B", "--dirty-workers=3", "--dirty-timeout=4", "--dirty-threads=5",
                            "--dirty-graceful-timeout=6"})
                          .MustLoad();
  const PoolSettings& pool = settings.pools.at(0);
  EXPECT_EQ(pool.apps.at(0).name, "a:B");
  EXPECT_EQ(pool.workers, 3u);
  EXPECT_EQ(pool.apps[0].limits.timeout, absl::Seconds(4));
  EXPECT_EQ(pool.threads, 5u);
  EXPECT_EQ(settings.graceful_timeout, absl::Seconds(6));
}

TEST(Flags, AreNamedInErrors) {
  TestWorld world = File("threads: 0\napps: [a:B]\n");
  world.args = {"--dirty-timeout", "-5", "--workers=x", "--env=A", "--allow-uids=1,www", "a:B", "c", "--rlimits=as=x"};
  EXPECT_THAT(world.Errors(),
              ElementsAre("f:1:1: threads: must be at least 1", "--dirty-timeout: \"-5\" is negative",
                          "--workers: \"x\" is not a whole number", "--env: expected NAME=VALUE",
                          "--allow-uids: \"www\" is not a whole number", "--rlimits: as: \"x\" is not a whole number",
                          "argument \"a:B\": app \"a:B\" is in pool \"default\" already (f:2:8); remove one, or give "
                          "it another name",
                          "argument \"c\": \"c\" is not an app; use module:Class or lib.so:Class"));
}

TEST(Flags, StartRelativePathsAtTheWorkingDirectory) {
  Settings settings = Args({"./libx.so:X", "--runtime_dir=run", "--chdir=.."}).MustLoad();
  EXPECT_EQ(settings.pools.at(0).apps.at(0).path, "/srv/libx.so:X");
  EXPECT_EQ(settings.socket, "/srv/run/dirty.sock");
  EXPECT_EQ(settings.pools[0].chdir, "/");
}

TEST(Flags, DoNotExpandVariables) {
  EXPECT_EQ(Args({"a:B", "--env=A=${X}"}).MustLoad().pools.at(0).env.at("A"), "${X}");
}

// A spelling that the field takes, other than its default.
std::string Example(const google::protobuf::FieldDescriptor& field) {
  if (field.name() == "socket_mode") return "0600";
  if (field.name() == "log_level") return "debug";
  if (field.name() == "log_format") return "json";
  if (field.name() == "metrics" || field.full_name() == "dirty.v1.NetworkListener.address") return "localhost:99";
  if (field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_BOOL) return "true";
  if (IsDuration(field)) return "29s";
  if (field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING) return "/example";
  return "77";
}

// Collects what must have a flag from the descriptor alone, independently of FlagKeys.
void ScalarPaths(const google::protobuf::Descriptor& type, const std::string& prefix,
                 std::map<std::string, const google::protobuf::FieldDescriptor*>& out) {
  for (int i = 0; i < type.field_count(); ++i) {
    const auto& field = *type.field(i);
    if (field.is_repeated()) continue;
    if (field.name() == "limits" || field.name() == "worker") {
      ScalarPaths(*field.message_type(), prefix, out);
    } else if (field.name() == "restart" || field.name() == "network") {
      ScalarPaths(*field.message_type(), field.name() + ".", out);
    } else if (field.name() != "hooks") {
      out[prefix + field.name()] = &field;
    }
  }
}

TEST(Flags, ExistForEveryScalarKey) {
  std::map<std::string, const google::protobuf::FieldDescriptor*> paths;
  ScalarPaths(*v1::Config::descriptor(), "", paths);
  ASSERT_GT(paths.size(), 35u);
  for (const auto& [path, field] : paths) {
    std::string flag = "--" + absl::StrReplaceAll(path, {{".", "-"}, {"_", "-"}});
    TestWorld world = Args({"a:B", flag, Example(*field)});
    if (absl::StartsWith(path, "network.")) {  // none of them stands alone
      world.args.push_back("--network_address=localhost:99");
      if (path == "network.certificate" || path == "network.client_ca") world.args.push_back("--network_key=/example");
      if (path == "network.key" || path == "network.client_ca") world.args.push_back("--network_certificate=/example");
    }
    auto loaded = world.Load();
    ASSERT_TRUE(loaded.ok()) << flag << ": " << loaded.status();
    std::string line = absl::StrCat(path.substr(path.find('.') + 1), ": ", Example(*field), "\n");
    EXPECT_THAT(ToYaml(loaded->config), HasSubstr(line));
  }
}

TEST(Help, ListsEveryFlagAndNothingElse) {
  std::set<std::string> helped;
  for (const KeyHelp& key : KeyHelps()) {
    EXPECT_TRUE(helped.insert(std::string(key.path)).second) << key.path << " twice";
    EXPECT_FALSE(key.help.empty()) << key.path;
  }
  std::vector<std::string> keys = FlagKeys();
  EXPECT_EQ(helped, std::set<std::string>(keys.begin(), keys.end()));
  std::string help = HelpText();
  for (const std::string& key : keys) {
    EXPECT_THAT(help, HasSubstr("\n  --" + absl::StrReplaceAll(key, {{".", "_"}}) + " "));
  }
  for (absl::string_view line : absl::StrSplit(help, '\n')) EXPECT_LE(line.size(), 120u) << line;
}

// Every key of `type` has a row "| `key` | ..." in the section of its message.
void ExpectDocumented(const google::protobuf::Descriptor& type, const std::string& section, const std::string& name) {
  for (const Key& key : KeysOf(type)) {
    EXPECT_THAT(section, HasSubstr("\n| `" + key.name() + "` |")) << name;
  }
}

TEST(Documentation, ListsEveryKeyWithItsDefault) {
  std::ifstream in(DIRTY_CONFIGURATION_DOC);
  std::stringstream text;
  text << in.rdbuf();
  std::map<std::string, std::string> sections;  // by heading
  for (absl::string_view part : absl::StrSplit(text.str(), "\n## ")) {
    std::pair<std::string, std::string> split = absl::StrSplit(part, absl::MaxSplits('\n', 1));
    sections[split.first] = "\n" + split.second;
  }
  const std::string& keys = sections["Keys"];
  ExpectDocumented(*v1::Config::descriptor(), keys, "Config");
  ExpectDocumented(*v1::RestartSettings::descriptor(), sections["Restarts"], "RestartSettings");
  ExpectDocumented(*v1::NetworkListener::descriptor(), sections["Network"], "NetworkListener");
  ExpectDocumented(*v1::Hooks::descriptor(), sections["Hooks"], "Hooks");
  for (const char* key : {"app", "name", "workers", "env"}) {
    EXPECT_THAT(sections["Apps"], HasSubstr(absl::StrCat("\n| `", key, "` |")));
  }
  for (const char* key : {"name", "workers", "apps", "runtime", "command"}) {
    EXPECT_THAT(sections["Pools"], HasSubstr(absl::StrCat("\n| `", key, "` |")));
  }
  for (const KeyHelp& help : KeyHelps()) {
    if (help.fallback.empty()) continue;
    bool restart = absl::StartsWith(help.path, "restart.");
    std::string row = absl::StrCat("\n| `", help.path.substr(restart ? 8 : 0), "` | `", help.fallback, "` |");
    EXPECT_THAT(restart ? sections["Restarts"] : keys, HasSubstr(row));
  }
}

}  // namespace
}  // namespace dirty
