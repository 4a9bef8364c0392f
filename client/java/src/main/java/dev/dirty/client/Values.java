package dev.dirty.client;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.BinaryNode;
import com.fasterxml.jackson.databind.node.NullNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.POJONode;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import dev.dirty.v1.ExecuteRequest;
import java.io.IOException;
import java.io.StringWriter;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.Map;

/** Between Java's values and those of the wire: JSON text, and attachments that it refers to. */
final class Values {
  private static final String KEY = "$attachment";

  /** dirtyd and the worker limit what comes; a document is not refused for its size. */
  static final ObjectMapper MAPPER =
      JsonMapper.builder(
              JsonFactory.builder()
                  .streamReadConstraints(
                      StreamReadConstraints.builder()
                          .maxStringLength(Integer.MAX_VALUE)
                          .maxNameLength(Integer.MAX_VALUE)
                          .maxNumberLength(10_000)
                          .build())
                  .build())
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .build();

  private Values() {}

  /** Cannot be sent; the message says why. */
  static final class Refused extends IOException {
    private static final long serialVersionUID = 1;

    Refused(String message) {
      super(message);
    }
  }

  /** The arguments of {@code call}. The bytes are not copied. */
  static void encode(Call call, ExecuteRequest.Builder request) throws Refused {
    request.setArgs(call.argsJson).setKwargs(call.kwargsJson);
    if (!call.args.isEmpty()) {
      request.setArgs(text("args", call.argsJson, call.args, request));
    }
    if (!call.kwargs.isEmpty()) {
      request.setKwargs(text("kwargs", call.kwargsJson, call.kwargs, request));
    }
  }

  private static String text(
      String what, String already, Object values, ExecuteRequest.Builder request) throws Refused {
    if (!already.isEmpty()) {
      throw new Refused(what + ": given both as values and as JSON text");
    }
    StringWriter text = new StringWriter();
    try (JsonGenerator generator = MAPPER.createGenerator(text)) {
      write(MAPPER.valueToTree(values), generator, request);
    } catch (IOException | IllegalArgumentException refused) {
      throw new Refused(what + ": " + refused.getMessage());
    }
    return text.toString();
  }

  private static void write(JsonNode node, JsonGenerator out, ExecuteRequest.Builder request)
      throws IOException {
    switch (node.getNodeType()) {
      case OBJECT:
        if (node.size() == 1 && node.has(KEY)) {
          throw new Refused("an object whose only key is " + KEY + " is a reference, never data");
        }
        out.writeStartObject();
        for (Map.Entry<String, JsonNode> field : node.properties()) {
          out.writeFieldName(paired(field.getKey()));
          write(field.getValue(), out, request);
        }
        out.writeEndObject();
        break;
      case ARRAY:
        out.writeStartArray();
        for (JsonNode element : node) {
          write(element, out, request);
        }
        out.writeEndArray();
        break;
      case BINARY:
        out.writeStartObject();
        out.writeNumberField(KEY, request.getAttachmentsCount());
        out.writeEndObject();
        request.addAttachments(UnsafeByteOperations.unsafeWrap(node.binaryValue()));
        break;
      case STRING:
        out.writeString(paired(node.textValue()));
        break;
      case NUMBER:
        if (node.isFloatingPointNumber() && !node.isBigDecimal() && !Double.isFinite(node.doubleValue())) {
          throw new Refused("NaN and infinities are not JSON");
        }
        MAPPER.writeTree(out, node);
        break;
      case POJO:
        write(MAPPER.valueToTree(((POJONode) node).getPojo()), out, request);
        break;
      case MISSING:
        out.writeNull();
        break;
      default:
        MAPPER.writeTree(out, node);
    }
  }

  /** The text itself, which must be Unicode: an unpaired surrogate would become something else. */
  static String paired(String text) throws Refused {
    for (int i = 0; i < text.length(); i++) {
      char unit = text.charAt(i);
      if (!Character.isSurrogate(unit)) {
        continue;
      }
      if (!Character.isHighSurrogate(unit)
          || i + 1 == text.length()
          || !Character.isLowSurrogate(text.charAt(i + 1))) {
        throw new Refused("a string has an unpaired surrogate at index " + i);
      }
      i++;
    }
    return text;
  }

  /** The value of {@code text}, with binary nodes where it refers to {@code attachments}. */
  static JsonNode decode(String text, List<ByteString> attachments) {
    try {
      JsonNode value = MAPPER.readTree(text);
      return attachments.isEmpty() ? value : placed(value, attachments);
    } catch (JsonProcessingException notJson) {
      throw new IllegalStateException(notJson.getOriginalMessage(), notJson);
    }
  }

  private static JsonNode placed(JsonNode node, List<ByteString> attachments) {
    if (node instanceof ArrayNode) {
      ArrayNode array = (ArrayNode) node;
      for (int i = 0; i < array.size(); i++) {
        array.set(i, placed(array.get(i), attachments));
      }
    } else if (node instanceof ObjectNode) {
      JsonNode number = node.size() == 1 ? node.get(KEY) : null;
      if (number != null && number.canConvertToInt()) {
        int index = number.intValue();
        return index >= 0 && index < attachments.size()
            ? BinaryNode.valueOf(attachments.get(index).toByteArray())
            : NullNode.instance;
      }
      Iterator<Map.Entry<String, JsonNode>> fields = ((ObjectNode) node).properties().iterator();
      while (fields.hasNext()) {
        Map.Entry<String, JsonNode> field = fields.next();
        field.setValue(placed(field.getValue(), attachments));
      }
    }
    return node;
  }

  static Duration duration(com.google.protobuf.Duration time) {
    return Duration.ofSeconds(time.getSeconds(), time.getNanos());
  }

  static com.google.protobuf.Duration duration(Duration time) {
    return com.google.protobuf.Duration.newBuilder()
        .setSeconds(time.getSeconds())
        .setNanos(time.getNano())
        .build();
  }
}
