#include "server/config/yaml.h"

#include <algorithm>
#include <sstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/config/config.h"
#include "server/config/keys.h"
#include "server/config/values.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/yaml.h"

namespace dirty {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

const char* Kind(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar:
      return "one value";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a mapping";
    case YAML::NodeType::Null:
    case YAML::NodeType::Undefined:
      break;
  }
  return "nothing";
}

Place PlaceIn(const YamlSource& source, const YAML::Mark& mark) {
  if (mark.is_null()) return {source.name, 0, 0};
  return {absl::StrCat(source.name, ":", mark.line + 1, ":", mark.column + 1), mark.line + 1, mark.column + 1};
}

class Reader {
 public:
  Reader(const YamlSource& source, Diagnostics& diagnostics) : source_(source), diagnostics_(diagnostics) {}

  // Reads the mapping `node` into `message`. `path` is empty for the whole file.
  void ReadMapping(const YAML::Node& node, const std::string& path, Message& message) {
    if (!node.IsMap()) {
      return diagnostics_.Add(path, absl::StrCat("expected a mapping of keys, not ", Kind(node)));
    }
    std::map<std::string, Place> seen;
    for (const auto& entry : node) {
      std::string key;
      Place place = PlaceOf(entry.first.Mark());
      if (!ReadKey(entry.first, path, seen, key)) continue;
      Key field = FindKey(*message.GetDescriptor(), key);
      if (!field.field) {
        UnknownKey(place, path, *message.GetDescriptor(), key, entry.second);
        continue;
      }
      std::string child = path.empty() ? key : absl::StrCat(path, ".", key);
      diagnostics_.SetPlace(child, place);
      // Nothing after the colon: as if left out.
      if (!entry.second.IsNull()) ReadField(entry.second, child, *field.field, field.OwnerIn(message));
    }
  }

 private:
  Place PlaceOf(const YAML::Mark& mark) const { return PlaceIn(source_, mark); }

  // False after an error.
  bool ReadKey(const YAML::Node& node, const std::string& path, std::map<std::string, Place>& seen, std::string& key) {
    Place place = PlaceOf(node.Mark());
    if (!node.IsScalar()) {
      diagnostics_.AddAt(place, path, absl::StrCat("a key must be a text, not ", Kind(node)));
      return false;
    }
    key = node.Scalar();
    auto [first, fresh] = seen.emplace(key, place);
    if (fresh) return true;
    diagnostics_.AddAt(place, path, absl::StrCat("duplicate key ", Quoted(key), "; first at ", first->second.text));
    return false;
  }

  void UnknownKey(const Place& place, const std::string& path, const Descriptor& type, const std::string& key,
                  const YAML::Node& value) {
    std::string unknown = absl::StrCat("unknown key ", Quoted(key));
    if (value.IsMap() && type.FindFieldByName(key)) {
      return diagnostics_.AddAt(place, path, absl::StrCat(unknown, "; write its keys here, without this heading"));
    }
    std::vector<std::string> names;
    for (const Key& known : KeysOf(type)) names.push_back(known.name());
    diagnostics_.AddAt(place, path, absl::StrCat(unknown, DidYouMean(key, names)));
    // What was meant is not also missing.
    std::string meant = Nearest(key, names);
    std::string child = path.empty() ? meant : absl::StrCat(path, ".", meant);
    if (!meant.empty() && diagnostics_.PlaceOf(child).text == diagnostics_.PlaceOf(path).text) {
      diagnostics_.Doubt(child);
    }
  }

  void ReadField(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    const Reflection& reflection = *message.GetReflection();
    if (field.is_map()) {
      ReadMap(node, path, field, message);
    } else if (field.is_repeated()) {
      if (!node.IsSequence()) {
        return diagnostics_.Add(path, absl::StrCat("expected a list, not ", Kind(node)));
      }
      for (size_t i = 0; i < node.size(); ++i) {
        std::string item = absl::StrCat(path, "[", i, "]");
        diagnostics_.SetPlace(item, PlaceOf(node[i].Mark()));
        if (IsMapping(field)) {
          // Added even if it is wrong, so that those after it keep their places.
          ReadItem(node[i], item, *reflection.AddMessage(&message, &field));
        } else {
          ReadScalar(node[i], item, field, message);
        }
      }
    } else if (IsMapping(field)) {
      ReadMapping(node, path, *reflection.MutableMessage(&message, &field));
    } else {
      ReadScalar(node, path, field, message);
    }
  }

  void ReadItem(const YAML::Node& node, const std::string& path, Message& message) {
    if (!node.IsScalar() || message.GetDescriptor() != v1::App::descriptor()) {
      return ReadMapping(node, path, message);
    }
    std::string text;
    if (!Expand(node, path, text)) return;
    absl::Status set = SetApp(text, source_.folder, static_cast<v1::App&>(message));
    if (!set.ok()) diagnostics_.Add(path, set.message());
  }

  void ReadMap(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (!node.IsMap()) {
      return diagnostics_.Add(path, absl::StrCat("expected ", Expected(field), ", not ", Kind(node)));
    }
    std::map<std::string, Place> seen;
    for (const auto& entry : node) {
      std::string key;
      if (!ReadKey(entry.first, path, seen, key)) continue;
      std::string child = absl::StrCat(path, ".", key);
      diagnostics_.SetPlace(child, PlaceOf(entry.first.Mark()));
      if (!entry.second.IsScalar()) {
        const std::string expected = Expected(*field.message_type()->map_value());
        diagnostics_.Add(child, absl::StrCat("expected ", expected, ", not ", Kind(entry.second)));
        continue;
      }
      std::string text;
      if (!Expand(entry.second, child, text)) continue;
      absl::Status set = SetMapEntry(message, field, key, text);
      if (!set.ok()) diagnostics_.Add(child, set.message());
    }
  }

  void ReadScalar(const YAML::Node& node, const std::string& path, const FieldDescriptor& field, Message& message) {
    if (!node.IsScalar()) {
      return diagnostics_.Add(path, absl::StrCat("expected ", Expected(field), ", not ", Kind(node)));
    }
    std::string text;
    if (!Expand(node, path, text)) return;
    absl::Status set = SetScalar(message, field, text, source_.folder);
    if (!set.ok()) diagnostics_.Add(path, set.message());
  }

  bool Expand(const YAML::Node& node, const std::string& path, std::string& text) {
    auto expanded = ExpandVariables(node.Scalar(), source_.variables);
    if (expanded.ok()) {
      text = *std::move(expanded);
      return true;
    }
    diagnostics_.Add(path, expanded.status().message());
    return false;
  }

  const YamlSource& source_;
  Diagnostics& diagnostics_;
};

// Finds where each document starts. Not YAML::LoadAll: 0.7 never returns on some texts, such as `"a" b "c`.
class DocumentStarts : public YAML::EventHandler {
 public:
  std::vector<YAML::Mark> marks;

  void OnDocumentStart(const YAML::Mark& mark) override { marks.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Writes what is set, as ReadYaml reads it back.
class Writer {
 public:
  std::string Write(const Message& message) {
    WriteMapping(message);
    return absl::StrCat(out_.c_str(), "\n");
  }

 private:
  void WriteMapping(const Message& message) {
    std::vector<Key> keys = KeysOf(*message.GetDescriptor());
    // Values first, then what is longer.
    std::stable_partition(keys.begin(), keys.end(), [](const Key& key) { return IsScalar(*key.field); });
    out_ << YAML::BeginMap;
    for (const Key& key : keys) {
      const Message& owner = key.OwnerIn(message);
      const Reflection& reflection = *owner.GetReflection();
      bool given =
          key.field->is_repeated() ? reflection.FieldSize(owner, key.field) > 0 : reflection.HasField(owner, key.field);
      if (!given) continue;
      out_ << YAML::Key << key.name() << YAML::Value;
      WriteField(owner, *key.field);
    }
    out_ << YAML::EndMap;
  }

  void WriteField(const Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    if (field.is_map()) {
      WriteMap(message, field);
    } else if (field.is_repeated()) {
      out_ << YAML::BeginSeq;
      for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
        if (IsMapping(field)) {
          WriteMapping(reflection.GetRepeatedMessage(message, &field, i));
        } else {
          WriteText(FormatScalar(message, field, i));
        }
      }
      out_ << YAML::EndSeq;
    } else if (IsMapping(field)) {
      WriteMapping(reflection.GetMessage(message, &field));
    } else {
      WriteText(FormatScalar(message, field, 0));
    }
  }

  void WriteMap(const Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    const FieldDescriptor& key = *field.message_type()->map_key();
    std::map<std::string, std::string> sorted;
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
      sorted[FormatScalar(entry, key, 0)] = FormatScalar(entry, *field.message_type()->map_value(), 0);
    }
    out_ << YAML::BeginMap;
    for (const auto& [name, value] : sorted) {
      out_ << YAML::Key << name << YAML::Value;
      WriteText(value);
    }
    out_ << YAML::EndMap;
  }

  // A "${" in a value must not expand when it is read back. A "$" before it would be taken for the escape.
  void WriteText(absl::string_view text) {
    std::string escaped;
    for (size_t i = 0; i < text.size(); ++i) {
      if (absl::StartsWith(text.substr(i), "${")) escaped += '$';
      escaped += text[i];
    }
    out_ << escaped;
  }

  YAML::Emitter out_;
};

}  // namespace

bool ReadYaml(const std::string& text, const YamlSource& source, v1::Config& config, Diagnostics& diagnostics) {
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    DocumentStarts documents;
    while (documents.marks.size() < 2 && parser.HandleNextDocument(documents)) {
    }
    if (documents.marks.size() > 1) {
      diagnostics.AddAt(PlaceIn(source, documents.marks[1]), "",
                        "a second document starts here; a configuration is one");
      return false;
    }
    YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return true;
    if (!root.IsMap()) {
      diagnostics.AddAt(PlaceIn(source, root.Mark()), "", absl::StrCat("expected a mapping of keys, not ", Kind(root)));
      return false;
    }
    Reader(source, diagnostics).ReadMapping(root, "", config);
    return true;
  } catch (const YAML::Exception& error) {
    diagnostics.AddAt(PlaceIn(source, error.mark), "", absl::StrCat("not YAML: ", Escaped(error.msg)));
    return false;
  }
}

std::string ToYaml(const v1::Config& config) { return Writer().Write(config); }

}  // namespace dirty
